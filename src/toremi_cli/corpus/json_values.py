"""Rows of JSON files: one object a line, an array of objects, or objects over several lines, one after another."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from toremi_cli.corpus.rows import BOM, BadRow, Row, Wanted, not_utf8
from toremi_cli.errors import CorpusError

CHUNK_CHARS = 1 << 18
"""Read at least so much before a value that seems to go on is tried again; doubled each time."""
LONGEST_SIGN = 16
"""No word or escape of JSON is longer: an error further from the end isn't that the text ends."""
_SPACE = re.compile(r"\s*")


def json_rows(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """One object a line, empty lines passed over; or whatever else the first line begins.

    Raises:
        CorpusError: what isn't one object a line is no valid JSON at some place.
    """
    number, begun = up_to_first_sign(file)
    if begun.endswith(b"["):  # it may all stand on one line
        yield from _values(begun, file, name, number)
        return
    if not begun:
        return
    first = begun + file.readline()
    row = json_row(first)
    if isinstance(row, BadRow) and _goes_on(first):
        yield from _values(first, file, name, number)
        return
    yield number, row
    yield from ((later, json_row(line)) for later, line in enumerate(file, number + 1) if line.strip())


def up_to_first_sign(file: IO[bytes]) -> tuple[int, bytes]:
    """Read up to the first sign; the number of its line, and the line so far, empty if there is none."""
    number, read = 1, file.read(1)
    if read == BOM[:1]:
        read = (read + file.read(len(BOM) - 1)).removeprefix(BOM) or file.read(1)
    while read.isspace():
        if read.endswith(b"\n"):
            number, read = number + 1, b""
        sign = file.read(1)
        if not sign:
            return number, b""
        read += sign
    return number, read


def json_lines(file: IO[bytes], name: str, wanted: Wanted) -> Iterator[Row]:
    """One object a line, empty lines passed over, of a range of a file whose first line is one."""
    return ((number, json_row(line)) for number, line in enumerate(file, 1) if line.strip())


def json_row(line: bytes) -> dict[str, Any] | BadRow:
    """The object on a line."""
    try:
        return _object(json.loads(line))
    except UnicodeDecodeError as problem:
        return not_utf8(line, problem.start)
    except ValueError as problem:
        return BadRow(f"not valid JSON ({problem})")
    except RecursionError:
        return BadRow("not valid JSON (nested too deeply)")


def _object(value: Any) -> dict[str, Any] | BadRow:
    return value if isinstance(value, dict) else BadRow(f"a JSON {type(value).__name__}; expected an object")


def _goes_on(line: bytes) -> bool:
    """Whether a value begins in this line and ends in a later one, or another begins after it."""
    text = line.decode("utf-8", "replace").rstrip()
    try:
        json.loads(text)
    except json.JSONDecodeError as problem:
        is_cut = text.startswith("{") and problem.pos >= len(text)
        return is_cut or (problem.msg == "Extra data" and text[problem.pos] == "{")
    except RecursionError:
        return False
    return False


def _values(first: bytes, rest: IO[bytes], name: str, line: int) -> Iterator[Row]:
    """The values of an array, or values one after another, with their place among them, from 1."""
    text = _Text(line, io.BytesIO(first), rest)
    try:
        is_array = text.skip("[")
        number = 0
        while not (text.skip("]") if is_array else text.is_over()):
            if number and is_array and not text.skip(","):
                raise ValueError("expected ',' or ']'")
            number += 1
            yield number, _object(text.value())
        if not text.is_over():
            raise ValueError("expected nothing after the array")
    except UnicodeDecodeError:
        raise CorpusError(f"{name}: not UTF-8 near line {text.line:,}; convert it, e.g. with iconv") from None
    except (ValueError, RecursionError) as problem:
        why = "nested too deeply" if isinstance(problem, RecursionError) else getattr(problem, "msg", str(problem))
        raise CorpusError(f"{name}:{text.line}: not valid JSON ({why})") from None


class _Text:
    """Text that is read as far as the value at hand needs."""

    def __init__(self, line: int, *parts: IO[bytes]) -> None:
        self._parts = [io.TextIOWrapper(part, "utf-8", newline="") for part in parts]
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at = "", 0
        self.line = line
        """On which the value at hand begins."""

    def skip(self, sign: str) -> bool:
        """Go past space, and past `sign` if it comes next."""
        if self.is_over() or self._text[self._at] != sign:
            return False
        self._at += 1
        return True

    def is_over(self) -> bool:
        """Whether nothing but space is left."""
        while True:
            end = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            if end < len(self._text):
                return False
            if not self._more(CHUNK_CHARS):
                return True

    def value(self) -> Any:
        """The value that comes next.

        Raises:
            ValueError: there is none, or none that is valid.
        """
        self.is_over()
        wanted = CHUNK_CHARS
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as problem:
                if not (self._may_go_on(problem) and self._more(wanted)):
                    self.line += self._text.count("\n", self._at, problem.pos)
                    raise
            else:
                if end < len(self._text) or not self._more(wanted):  # a number may go on
                    self.line += self._text.count("\n", self._at, end)
                    self._at = end
                    return value
            wanted *= 2

    def _may_go_on(self, problem: json.JSONDecodeError) -> bool:
        return problem.msg.startswith("Unterminated string") or problem.pos > len(self._text) - LONGEST_SIGN

    def _more(self, num_chars: int) -> bool:
        while self._parts:
            read = self._parts[0].read(num_chars)
            if read:
                self._text, self._at = self._text[self._at :] + read, 0
                return True
            self._parts[0].detach()
            self._parts.pop(0)
        return False
