"""Git LFS leaves a small text file, a pointer, in the place of one that it has not fetched."""

from __future__ import annotations

BEGINNING = b"version https://git-lfs.github.com/spec/"
LIKELY_BYTES = range(100, 256)
"""Sizes of pointers in practice."""
MOST_BYTES = 1024
"""No larger file is a pointer."""


def is_pointer(beginning: bytes) -> bool:
    """Whether a file that begins so is a pointer."""
    return beginning.startswith(BEGINNING)
