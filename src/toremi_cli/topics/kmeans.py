"""K-means on the samples' vectors: the paper's recipe (ToReMi, annotation), and the first cut at a given number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from toremi_cli.topics.vectors.bags import normalize_rows

SMALL = 20_000
"""Up to so many samples all are looked at in every step."""
STARTS = 10
BLOCK_ROWS = 256

_threads_limited = False


@contextmanager
def one_thread() -> Iterator[None]:
    """Let matrix products and k-means use one thread: sums in one order, so that the same seed gives the same bits.

    Setting the limit takes milliseconds, because every loaded library is asked for it: inside of another `one_thread`
    nothing is done, so put one around many small steps.
    """
    from threadpoolctl import threadpool_limits

    global _threads_limited
    if _threads_limited:
        yield
        return
    with threadpool_limits(1):
        _threads_limited = True
        try:
            yield
        finally:
            _threads_limited = False


def fit_kmeans(vectors: np.ndarray, num_clusters: int, seed: int, starts: int = STARTS) -> np.ndarray:
    """(num_clusters, dim) float64 centres of length 1; fewer where there are fewer different vectors.

    MiniBatchKMeans, or plain k-means with `starts` starts where the samples are few and clusters too.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    num_clusters = min(num_clusters, len(np.unique(vectors, axis=0)))
    if len(vectors) <= SMALL and num_clusters <= 200:
        model = KMeans(num_clusters, n_init=starts, random_state=seed)
    else:
        batch = max(1024, 3 * num_clusters)
        model = MiniBatchKMeans(num_clusters, n_init=3, batch_size=batch, random_state=seed, reassignment_ratio=0.0)
    with one_thread():
        model.fit(np.asarray(vectors, dtype=np.float64))
    return normalize_rows(model.cluster_centers_)


def nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(num_samples,) the centre of largest cosine."""
    return similarities(vectors, centres).argmax(axis=1)


def similarities(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(num_samples, num_topics) float64 cosines of rows of length 1.

    Multiplied in blocks of one size, the last one padded: a library's matrix product may sum in another order for
    another number of rows, and then a sample's bits would depend on how many others came with it.
    """
    num_rows = len(vectors)
    padded = np.zeros((-(-num_rows // BLOCK_ROWS) * BLOCK_ROWS, centres.shape[1]))
    padded[:num_rows] = vectors
    transposed = np.ascontiguousarray(centres.T, dtype=np.float64)
    with one_thread():
        blocks = [padded[start : start + BLOCK_ROWS] @ transposed for start in range(0, len(padded), BLOCK_ROWS)]
    return np.concatenate(blocks)[:num_rows] if blocks else np.zeros((0, len(centres)))
