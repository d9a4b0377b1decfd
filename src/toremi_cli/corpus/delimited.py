"""Rows of CSV and TSV files.

CSV is that of RFC 4180: a text with commas, line ends or quotes stands in quotes, quotes within are doubled. Where
quotes don't balance, the line on which they open is the broken one, and reading goes on at the next. A header that has
no comma, but semicolons, tabs or bars, says that these separate. TSV knows no quotes (IANA text/tab-separated-values):
they are letters like others.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import deque
from collections.abc import Iterator
from typing import IO

from toremi_cli.corpus.rows import BadRow, Row, Wanted, refuse_twice
from toremi_cli.errors import CorpusError

SEPARATORS = (";", "\t", "|")
"""Separate the fields of a CSV file whose header has no comma."""
_ESCAPED = re.compile("[\udc80-\udcff]")
"""A byte that is not UTF-8, as the error handler `surrogateescape` passes it on."""


def csv_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """A header line, then one record each; quoted records may span lines.

    Raises:
        CorpusError: the header names a wanted field twice.
    """
    csv.field_size_limit(sys.maxsize)
    lines = _Lines(file)
    first = lines.peek()
    if first is None:
        return
    delimiter = "," if "," in first else next((sign for sign in SEPARATORS if sign in first), ",")
    header: list[str] | None = None
    for number, record in _records(lines, delimiter):
        if header is None:
            if isinstance(record, BadRow):
                raise CorpusError(f"{name}:{number}: in the header: {record}")
            refuse_twice(record, wanted, f"{name}:{number}")
            header = record
        elif isinstance(record, BadRow):
            yield number, record
        else:
            yield number, _fields(header, record, f" (are texts that hold '{delimiter}' quoted?)")


def tsv_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """A header line, then one record a line, without quotes.

    Raises:
        CorpusError: the header names a wanted field twice.
    """
    lines = _Lines(file)
    header: list[str] | None = None
    for line in lines:
        lines.mark()
        stripped = line.rstrip("\r\n")
        record = stripped.split("\t")
        if header is None:
            header = record
            refuse_twice(header, wanted, f"{name}:1")
        elif bad := _bad_byte(line):
            yield lines.number, bad
        elif stripped:
            yield lines.number, _fields(header, record, " (TSV has no quotes: texts with tabs or line ends need CSV)")


def _fields(header: list[str], record: list[str], hint: str) -> dict[str, str] | BadRow:
    if len(record) == len(header):
        return dict(zip(header, record, strict=True))
    return BadRow(f"{len(record)} field{'s' * (len(record) != 1)}, but the header has {len(header)}{hint}")


def _records(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Each record with the number of its first line; of a broken one only that line is used up."""
    while lines.peek() is not None:
        lines.mark()
        number = lines.number + 1
        try:
            record = next(csv.reader(lines, delimiter=delimiter, strict=True))
        except csv.Error as problem:
            yield number, BadRow(_explain(str(problem), lines.back_to_second()))
        else:
            if record:
                yield number, next(filter(None, map(_bad_byte, lines.since_mark)), None) or record


def _explain(problem: str, num_lines: int) -> str:
    if "unexpected end of data" in problem:
        return "a quote that opens here never closes; double quotes within a quoted text"
    if "expected after" in problem:
        closes = f", and closes {num_lines - 1:,} lines below" if num_lines > 1 else ""
        return f"quotes don't balance: one opens here{closes} within a text; double quotes within a quoted text"
    if "new-line character" in problem:
        return "a line end (CR) in a text without quotes"
    return f"not valid CSV ({problem})"


def _bad_byte(line: str) -> BadRow | None:
    if line.isascii() or not (found := _ESCAPED.search(line)):
        return None
    return BadRow(f"not UTF-8 (byte 0x{ord(found[0]) - 0xDC00:02x})")


class _Lines:
    """The lines of a file, with their ends, that can be gone back to: LF and CR LF, or CR where there is no LF."""

    def __init__(self, file: IO[bytes]) -> None:
        beginning = file.peek()  # type: ignore[attr-defined]
        ends_in_cr = b"\r" in beginning[:-1] and b"\n" not in beginning
        self._text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="\r" if ends_in_cr else "\n")
        self._ahead: deque[str] = deque()
        self.since_mark: list[str] = []
        self.number = 0
        """Of the line that was given last, from 1."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._text)
        self.number += 1
        self.since_mark.append(line)
        return line

    def peek(self) -> str | None:
        """The next line, None at the end."""
        if not self._ahead:
            line = next(self._text, None)
            if line is None:
                return None
            self._ahead.append(line)
        return self._ahead[0]

    def mark(self) -> None:
        """Remember the lines from here on."""
        self.since_mark = []

    def back_to_second(self) -> int:
        """Go back to the line after the first since the mark; return how many there were."""
        num_lines = len(self.since_mark)
        self._ahead.extendleft(reversed(self.since_mark[1:]))
        self.number -= num_lines - 1
        return num_lines
