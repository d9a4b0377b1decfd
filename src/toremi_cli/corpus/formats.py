"""Rows of one corpus file, streamed: a row is its number (line, or row of a Parquet file, from 1) and its fields."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from toremi_cli.errors import CorpusError, reason

BOM = b"\xef\xbb\xbf"
PARQUET_BATCH_ROWS = 512


class BadRow(str):
    """Takes a row's place where it is broken: what is wrong with it."""


Row = tuple[int, Mapping[str, Any] | BadRow]


class Wanted(NamedTuple):
    """The fields that a reader of rows looks for, so that a columnar file need not be read whole."""

    text: Sequence[str]
    other: Sequence[str]


def text_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """A text file is one row with the field `text`."""
    data = file.read().removeprefix(BOM)
    try:
        yield 0, {"text": data.decode("utf-8")}
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        yield 0, BadRow(f"not UTF-8 (byte 0x{data[problem.start]:02x} in line {line:,}); convert it, e.g. with iconv")


def jsonl_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """One JSON object a line; empty lines are passed over."""
    for number, line in enumerate(file, 1):
        if number == 1:
            line = line.removeprefix(BOM)
        if not line.strip():
            continue
        if number == 1 and line.lstrip().startswith(b"["):
            raise CorpusError(f"{name}: is a JSON array; expected one JSON object a line (jq -c '.[]' converts it)")
        try:
            fields = json.loads(line)
        except UnicodeDecodeError as problem:
            yield number, BadRow(f"not UTF-8 (byte 0x{line[problem.start]:02x})")
        except ValueError as problem:
            yield number, BadRow(f"not valid JSON ({problem})")
        except RecursionError:
            yield number, BadRow("not valid JSON (nested too deeply)")
        else:
            is_object = isinstance(fields, dict)
            yield number, fields if is_object else BadRow(f"a JSON {type(fields).__name__}; expected an object")


def csv_rows(file: IO[bytes], name: str, wanted: Wanted, delimiter: str = ",") -> Iterator[Row]:
    """A header line, then one record each; quoted records may span lines."""
    csv.field_size_limit(sys.maxsize)
    lines = _Lines(file)
    reader = csv.reader(lines, delimiter=delimiter)
    header = next(reader, None)
    if header is None:
        return
    while True:
        lines.bad = None
        number = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            yield number, BadRow(f"not valid CSV ({problem})")
            continue
        if lines.bad:
            yield number, BadRow(lines.bad)
        elif len(record) == len(header):
            yield number, dict(zip(header, record, strict=True))
        elif record:
            yield number, BadRow(f"{len(record)} fields, but the header has {len(header)}")


class _Lines:
    """Decodes line by line, so that a byte that isn't UTF-8 spoils its own record only."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._first = True
        self.bad: str | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        if self._first:
            line, self._first = line.removeprefix(BOM), False
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as problem:
            self.bad = f"not UTF-8 (byte 0x{line[problem.start]:02x})"
            return line.decode("utf-8", errors="replace")


def tsv_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """As CSV, with tabs."""
    return csv_rows(file, name, wanted, delimiter="\t")


def parquet_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """The rows of a Parquet file, with the wanted columns (all, if none can be the text)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        names = parquet.schema_arrow.names
        has_text = any(column in names for column in wanted.text)
        columns = [n for n in names if n in wanted.text or n in wanted.other] if has_text else names
        number = 0
        for batch in parquet.iter_batches(PARQUET_BATCH_ROWS, columns=columns):
            for fields in batch.to_pylist():
                number += 1
                yield number, fields
    except (pa.ArrowException, OSError) as problem:
        if isinstance(problem, PermissionError):
            raise
        raise CorpusError(f"{name}: not a whole Parquet file ({reason(problem)}); fetch or write it again") from None


ROW_READERS = {"text": text_rows, "jsonl": jsonl_rows, "csv": csv_rows, "tsv": tsv_rows, "parquet": parquet_rows}
