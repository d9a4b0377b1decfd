"""One huge file with a JSON object a line, cut into ranges of bytes that end with lines, for several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import IO, Any

from toremi_cli.corpus.json_values import json_row, up_to_first_sign
from toremi_cli.corpus.listing import CorpusFile
from toremi_cli.corpus.rows import BadRow

READ_BYTES = 1 << 23


def can_be_cut(file: CorpusFile) -> bool:
    """Whether a process may begin in the midst of the file, if it holds a JSON object a line."""
    return file.format == "json" and not (file.compression or file.problem or file.beside_code)


def cut_file(filesystem: Any, file: CorpusFile, size: int) -> list[CorpusFile]:
    """The file's ranges of about `size` bytes; the file itself where it is small or cannot be cut."""
    if file.size <= 2 * size or not can_be_cut(file):
        return [file]
    try:
        with filesystem.open(file.path, "rb") as stream:
            begins = [*_begins(stream, size), (file.size, 0)] if _holds_lines(stream) else []
    except OSError:
        return [file]  # who reads it says what is wrong
    return [
        replace(file, format="lines", size=end - begin, begin=begin, lines_before=lines)
        for (begin, lines), (end, _) in pairwise(begins)
        if end > begin
    ] or [file]


def _holds_lines(stream: IO[bytes]) -> bool:
    """Whether the first line that isn't empty is an object."""
    begun = up_to_first_sign(stream)[1]
    return begun.endswith(b"{") and not isinstance(json_row(begun + stream.readline()), BadRow)


def _begins(stream: IO[bytes], size: int) -> Iterator[tuple[int, int]]:
    """Where ranges begin, and how many lines stand before."""
    stream.seek(0)
    offset = lines = 0
    wanted = size
    yield 0, 0
    while data := stream.read(READ_BYTES):
        while (at := data.find(b"\n", max(wanted - offset, 0))) >= 0:
            yield offset + at + 1, lines + data.count(b"\n", 0, at + 1)
            wanted = offset + at + 1 + size
        lines += data.count(b"\n")
        offset += len(data)
