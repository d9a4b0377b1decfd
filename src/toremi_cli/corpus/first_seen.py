"""Which of a corpus' hashes stand in it for the first time: compared in partitions, by their first bits.

Equal hashes fall into one partition, which needs no other: memory is bounded, and processes share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from toremi_cli.corpus.hashing import HashSet
from toremi_cli.engine import run_shards
from toremi_cli.files import atomic_file

PARTITION_HASHES = 1 << 26
"""Of a partition, at most: half a gigabyte, and as much again while they are merged."""

HashesOf = Callable[[int], np.ndarray]
"""The hashes of the list with this number, (n,) uint64. Has to be picklable."""


@dataclass(frozen=True)
class FirstSeen:
    """Marks of each list's hashes; a bit each, every list from a whole byte on."""

    folder: Path
    sizes: Sequence[int]
    """Hashes of each list."""
    num_bits: int
    """By which they are parted."""

    def marks_of(self, number: int) -> np.ndarray:
        """(n,) bool of the list with this number: True where a hash stands neither before in it nor in earlier ones."""
        begin, end = self._bytes[number : number + 2]
        found = [np.load(self._path(index), mmap_mode="r")[begin:end] for index in range(1 << self.num_bits)]
        return np.unpackbits(np.bitwise_or.reduce(found), count=self.sizes[number]).astype(bool)

    def compare(self, hashes_of: HashesOf, index: int) -> None:
        """Mark the hashes of one partition."""
        seen, marks, begins = HashSet(), np.zeros(self._bytes[-1], np.uint8), self._bytes
        for number, size in enumerate(self.sizes):
            hashes, is_new = hashes_of(number), np.zeros(size, bool)
            inside = hashes >> np.uint64(64 - self.num_bits) == index if self.num_bits else np.ones(size, bool)
            is_new[inside] = seen.add(hashes[inside])
            marks[begins[number] : begins[number + 1]] = np.packbits(is_new)
        with atomic_file(self._path(index)) as path, path.open("wb") as file:
            np.save(file, marks, allow_pickle=False)

    @cached_property
    def _bytes(self) -> np.ndarray:
        """(lists + 1,) where each list's marks begin."""
        return np.cumsum([0, *(-(-size // 8) for size in self.sizes)])

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.npy"


def mark_first(
    hashes_of: HashesOf, sizes: Sequence[int], folder: Path, *, engine: str = "local", workers: int = 1
) -> FirstSeen:
    """Mark what stands for the first time in lists of hashes, one after the other.

    Args:
        hashes_of: the lists.
        sizes: of each.
        folder: where marks are kept.
        engine: as `run_shards` takes it.
        workers: likewise; the result is the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    first = FirstSeen(folder, sizes, max(-(-sum(sizes) // PARTITION_HASHES) - 1, 0).bit_length())
    for _ in run_shards(partial(first.compare, hashes_of), range(1 << first.num_bits), engine=engine, workers=workers):
        pass
    return first
