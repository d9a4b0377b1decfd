"""Places on a map: two dimensions of vectors, spread so that they fill the room."""

from __future__ import annotations

import numpy as np


def principal(vectors: np.ndarray) -> np.ndarray:
    """(num_points, dim) -> (num_points, 2): coordinates along the two directions of largest variance."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    left, strength, directions = np.linalg.svd(centred, full_matrices=False)
    kept = min(2, len(strength))
    # A direction's sign is arbitrary: fix it, so that the map is the same on every machine.
    signs = np.sign(directions[np.arange(kept), np.abs(directions[:kept]).argmax(axis=1)])
    places = np.zeros((len(vectors), 2))
    places[:, :kept] = left[:, :kept] * strength[:kept] * signs
    return places


def spread(places: np.ndarray) -> np.ndarray:
    """(num_points, 2) -> the same in 0..1. Axes have no unit, so empty space may be given up; near stays near."""
    return np.column_stack([_spread(axis) for axis in places.T])


def _spread(axis: np.ndarray) -> np.ndarray:
    """(num_points,) coordinates from 0 to 1: half the place between the ends, half the rank."""
    low, high = axis.min(), axis.max()
    if high <= low:
        return np.full(len(axis), 0.5)
    _, inverse, counts = np.unique(axis, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts + 1) / 2  # equal coordinates share the middle of their ranks
    return 0.5 * (axis - low) / (high - low) + 0.5 * rank[inverse] / max(len(axis) - 1, 1)
