"""What a reader of rows gives and is told: a row is its number and its fields, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from toremi_cli.errors import CorpusError

BOM = b"\xef\xbb\xbf"


class BadRow(str):
    """Takes a row's place where it is broken: what is wrong with it."""


Row = tuple[int, Mapping[str, Any] | BadRow]
"""Number (line, or place in a Parquet file or a JSON array, from 1; 0 for a file that is one row) and fields."""


class Wanted(NamedTuple):
    """The fields that a reader of rows looks for, so that a columnar file need not be read whole.

    A name with dots, `meta.source`, may be that of a field in a field.
    """

    text: Sequence[str]
    other: Sequence[str]


def refuse_twice(names: Iterable[str], wanted: Wanted, where: str) -> None:
    """Refuse a wanted field that a header or schema names twice: nothing says which of the two is meant.

    Raises:
        CorpusError: names the field.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen and (name in wanted.text or name in wanted.other):
            raise CorpusError(f"{where}: names the field '{name}' twice; rename one of the two")
        seen.add(name)


def not_utf8(data: bytes, start: int) -> BadRow:
    """What is wrong with a row whose byte `start` cannot be UTF-8."""
    return BadRow(f"not UTF-8 (byte 0x{data[start]:02x})")
