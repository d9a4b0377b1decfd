"""Random orders that are computed, not stored: where a keyed permutation puts each place, whatever its size.

A Feistel network over rows x columns, the smallest near-square that holds all places; what falls outside of them walks
on until it doesn't (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
"""

from __future__ import annotations

import numpy as np

ROUNDS = 4
"""Of two halves each, and once more for few places, whose halves hide less from each other."""
FEW_COLUMNS = 8
_HALF = np.uint64(32)
_FIRST, _SECOND, _STEP = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F))
"""Odd numbers of no pattern: the golden ratio's, rrxmrrxmsx's, wyhash's."""


def shuffled(place: np.ndarray, size: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Where permutations of 0, 1, …, size - 1 put places.

    Args:
        place: (n,) int64, each below its size.
        size: (n,) int64, from 1 to 2^62.
        key: (n,) uint64; places of one key and size are of one permutation.

    Returns:
        (n,) int64, each below its size.
    """
    columns = np.ceil(np.sqrt(size)).astype(np.uint64)
    rows = (size.astype(np.uint64) + columns - np.uint64(1)) // columns
    found, outside = place.astype(np.uint64), np.arange(len(place))
    while len(outside):
        found[outside] = _network(found[outside], rows[outside], columns[outside], key[outside])
        outside = outside[found[outside] >= size[outside].astype(np.uint64)]
    return found.astype(np.int64)


def _network(place: np.ndarray, rows: np.ndarray, columns: np.ndarray, key: np.ndarray) -> np.ndarray:
    found = _rounds(place, rows, columns, key)
    few = np.flatnonzero(columns <= FEW_COLUMNS)
    found[few] = _rounds(found[few], rows[few], columns[few], key[few] ^ _FIRST)
    return found


def _rounds(place: np.ndarray, rows: np.ndarray, columns: np.ndarray, key: np.ndarray) -> np.ndarray:
    row = place // columns
    column = place - row * columns
    for _ in range(ROUNDS):
        column = _shifted(column, columns, key, row)
        row = _shifted(row, rows, key + _STEP, column)
        key = key + _STEP + _STEP
    return row * columns + column


def _shifted(half: np.ndarray, width: np.ndarray, key: np.ndarray, other: np.ndarray) -> np.ndarray:
    """One half, moved on by a number below its width that the other half and the key decide."""
    number = (other ^ key) * _FIRST
    number = (number ^ (number >> _HALF)) * _SECOND
    moved = half + ((number >> _HALF) * width >> _HALF)
    return np.where(moved >= width, moved - width, moved)
