"""How the C library deals with the large blocks of memory that a step on the CPU takes and gives back."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Numbers of glibc's mallopt(3)."""


def reuse_freed_memory() -> None:
    """Keep freed blocks for the next step, rather than give them back to the system.

    glibc maps every block above 32 MB anew, and a step's logits are several such blocks whose pages then have to be
    zeroed one by one: a quarter of a small model's step on the CPU. Costs some memory; elsewhere than on Linux with
    glibc it does nothing.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_MMAP_MAX, 0)
            libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def give_back_freed_memory() -> None:
    """Give freed blocks back to the system all the same: threads, files and other programs have room again."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
