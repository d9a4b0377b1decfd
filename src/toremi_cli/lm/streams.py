"""Random streams, each derived from what it is for: no global state, the same on every machine and rank."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(*parts: object) -> int:
    """A seed of 63 bits from (seed, purpose, …)."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def permutation(size: int, *parts: object) -> np.ndarray:
    """(size,) int64: a random order of 0, 1, …, size - 1."""
    return np.random.Generator(np.random.Philox(derive_seed(*parts))).permutation(size)
