"""Rows of one corpus file, streamed: what reads each format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Any

from toremi_cli.corpus.delimited import csv_rows, tsv_rows
from toremi_cli.corpus.json_values import json_lines, json_rows
from toremi_cli.corpus.rows import BOM, BadRow, Row, Wanted, not_utf8, refuse_twice
from toremi_cli.errors import CorpusError, reason

BATCH_ROWS = 512
ARROW_FILE = b"ARROW1"
"""Begins an Arrow file; the same without an index is an Arrow stream, as `datasets` saves them."""


def text_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """A text file is one row with the field `text`."""
    data = file.read().removeprefix(BOM)
    try:
        yield 0, {"text": data.decode("utf-8")}
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        yield 0, BadRow(f"not UTF-8 (byte 0x{data[problem.start]:02x} in line {line:,}); convert it, e.g. with iconv")


def parquet_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """The rows of a Parquet file, with the wanted columns (all, if none can be the text).

    Raises:
        CorpusError: the file is damaged, or names a wanted field twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        refuse_twice(schema.names, wanted, name)
        yield from _rows(parquet.iter_batches(BATCH_ROWS, columns=_columns(schema, wanted)))
    except (pa.ArrowException, OSError) as problem:
        if isinstance(problem, PermissionError):
            raise
        raise CorpusError(f"{name}: not a whole Parquet file ({reason(problem)}); fetch or write it again") from None


def arrow_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """The rows of an Arrow file or stream: what `save_to_disk` of `datasets` leaves.

    Raises:
        CorpusError: the file is damaged, or names a wanted field twice.
    """
    import pyarrow as pa

    try:
        source = _open_arrow(file)
        refuse_twice(source.schema.names, wanted, name)
        yield from _rows(_arrow_batches(source, wanted))
    except (pa.ArrowException, OSError) as problem:
        raise CorpusError(f"{name}: not a whole Arrow file ({reason(problem)}); save it again") from None


def _open_arrow(file: IO[bytes]) -> Any:
    import pyarrow as pa

    if file.peek(len(ARROW_FILE)).startswith(ARROW_FILE):  # type: ignore[attr-defined]
        return pa.ipc.open_file(file)
    return pa.ipc.open_stream(file)


def _arrow_batches(source: Any, wanted: Wanted) -> Iterator[Any]:
    columns = _columns(source.schema, wanted)
    if hasattr(source, "num_record_batches"):
        source = map(source.get_batch, range(source.num_record_batches))
    for batch in source:
        kept = batch if columns is None else batch.select([n for n in batch.schema.names if _is_of(n, columns)])
        yield from (kept.slice(begin, BATCH_ROWS) for begin in range(0, kept.num_rows, BATCH_ROWS))


def _columns(schema: Any, wanted: Wanted) -> list[str] | None:
    """The columns, or fields in columns, that are wanted; None, for all, where none of them can be the text."""
    import pyarrow as pa

    found: tuple[list[str], list[str]] = ([], [])
    for names, own in zip(wanted, found, strict=True):
        for name in names:
            outer = name.partition(".")[0]
            if name in schema.names:
                own.append(name)
            elif outer in schema.names:
                own.append(name if pa.types.is_struct(schema.field(outer).type) else outer)
    return found[0] + found[1] if found[0] else None


def _is_of(name: str, columns: list[str]) -> bool:
    return any(column == name or column.startswith(f"{name}.") for column in columns)


def _rows(batches: Iterator[Any]) -> Iterator[Row]:
    """The rows of record batches, numbered from 1. A string that is not UTF-8 spoils its own row only."""
    number = 0
    for batch in batches:
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            rows = [_row(batch, index) for index in range(batch.num_rows)]
        yield from enumerate(rows, number + 1)
        number += batch.num_rows


def _row(batch: Any, index: int) -> dict[str, Any] | BadRow:
    row = {}
    for column, values in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[column] = values[index].as_py()
        except UnicodeDecodeError as problem:
            return BadRow(f"field '{column}': {not_utf8(problem.object, problem.start)}")
    return row


RowReader = Callable[[IO[bytes], str, Wanted], Iterator[Row]]
ROW_READERS: dict[str, RowReader] = {
    "text": text_rows,
    "code": text_rows,
    "json": json_rows,
    "lines": json_lines,
    "csv": csv_rows,
    "tsv": tsv_rows,
    "parquet": parquet_rows,
    "arrow": arrow_rows,
}
