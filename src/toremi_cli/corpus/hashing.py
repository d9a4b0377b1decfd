"""Hashes that decide things (splits, samples, duplicates): the same in every process, whatever PYTHONHASHSEED."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

HASH_RANGE = 2**64


def keyed_hash(purpose: str, *parts: str | int) -> int:
    """A 64-bit hash of `parts`; each `purpose` has a hash function of its own."""
    state = hashlib.blake2b(key=purpose.encode()[:64], digest_size=8)
    state.update("\0".join(map(str, parts)).encode())
    return int.from_bytes(state.digest(), "little")


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """64-bit hashes of texts: (num_texts,) uint64."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8")


class HashSet:
    """A growing set of 64-bit hashes at 8 bytes each, for millions of them.

    Sorted runs of numbers, merged when the last has grown to half the one before it, so that n insertions cost
    O(n log n) altogether. Two different texts fall together with probability n^2 / 2^65: 3% at a billion texts.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(run.size for run in self._runs)

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """Insert `hashes`: (n,) uint64; return (n,) bool, True where the hash had not been seen before."""
        values, first = np.unique(hashes, return_index=True)
        known = np.zeros(values.size, dtype=bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, values), run.size - 1)
            known |= run[places] == values
        is_new = np.zeros(hashes.size, dtype=bool)
        is_new[first[~known]] = True
        if not known.all():
            self._append(values[~known])
        return is_new

    def _append(self, run: np.ndarray) -> None:
        while self._runs and self._runs[-1].size <= 2 * run.size:
            run = np.concatenate([self._runs.pop(), run])
            run.sort(kind="stable")  # timsort: linear on two sorted runs
        self._runs.append(run)
