"""More lines than memory holds, in the order of random keys: a shuffle by files."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

KEY_DIGITS = 16
"""Hexadecimal digits at the beginning of a line that are its key."""
MEMORY_BYTES = 256_000_000
LINE_BYTES = 64
"""What a line costs in memory besides its text."""


def in_key_order(
    lines: Iterable[bytes], scratch: Path, memory_bytes: int = MEMORY_BYTES, digit: int = 0
) -> Iterator[bytes]:
    """The lines, sorted; all of `lines` is read before the first comes out.

    More than `memory_bytes` are dealt to 16 files by a digit of their key, and each is sorted in the same way: the
    order is the same whatever fits.

    Args:
        lines: each begins with a key of `KEY_DIGITS` digits, evenly distributed, and ends with a newline.
        scratch: a folder that isn't there; it is gone again at the end.
        memory_bytes: about how much is held at once.
        digit: how many digits of the keys are alike already.
    """
    held, size = [], 0
    lines = iter(lines)
    for line in lines:
        held.append(line)
        size += len(line) + LINE_BYTES
        if size > memory_bytes and digit < KEY_DIGITS:
            break
    else:
        yield from sorted(held)
        return
    scratch.mkdir()
    files = [scratch / f"{number:x}" for number in range(16)]
    with ExitStack() as stack:
        dealt = [stack.enter_context(_opened(file, "wb")) for file in files]
        for line in chain(_taken(held), lines):
            dealt[int(line[digit : digit + 1], 16)].write(line)
    for file in files:
        with _opened(file, "rb") as part:
            yield from in_key_order(part, file.with_suffix(".parts"), memory_bytes, digit + 1)
        file.unlink()
    shutil.rmtree(scratch)


def _taken(held: list[bytes]) -> Iterator[bytes]:
    """The lines, each let go of as it is passed on."""
    held.reverse()
    while held:
        yield held.pop()


def _opened(file: Path, mode: str) -> Any:
    import zstandard

    if mode == "wb":
        return zstandard.open(file, mode, cctx=zstandard.ZstdCompressor(level=1))
    return io.BufferedReader(zstandard.open(file, mode))  # the reader itself has no lines
