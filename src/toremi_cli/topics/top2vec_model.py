"""The vector view: Top2Vec's search for dense areas, run on our vectors.

The `top2vec` package (Angelov 2020, arXiv 2008.09470) takes no vectors made elsewhere and exposes no seed, but its
topic step (UMAP, HDBSCAN, mean of each dense area, merging of duplicates, words nearest to a topic) is a method that
works on whatever vectors its object holds.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from toremi_cli.topics.kmeans import one_thread

MERGE_DISTANCE = 0.1
"""Topics closer than this (cosine distance) are one: Top2Vec's default."""
NUM_NEIGHBOURS, NUM_COMPONENTS = 15, 5
"""Top2Vec's UMAP settings."""
MOST_ALL_PAIRS = 50_000
"""Samples of which all pairs are compared, at most: their number grows with the square."""
FEWEST_SAMPLES = 30
"""Below this, UMAP has no neighbourhoods to speak of and density means nothing."""
LAYOUT_PURPOSE = 0x6C61796F
"""Parts the random stream of the layout from others of the same seed."""
LAYOUT_NOISE = 1e-3
"""Standard deviation of what sets equal samples apart, relative to that of the layout's widest direction."""


@dataclass(frozen=True)
class DenseAreas:
    """What Top2Vec found: `centres` (num_topics, dim), largest topic first, or none and the `reason`."""

    centres: np.ndarray
    reason: str = ""


def find_dense_areas(vectors: np.ndarray, min_topic_samples: int, seed: int) -> DenseAreas:
    """Run Top2Vec's topic step.

    Args:
        vectors: (num_samples, dim) of length 1.
        min_topic_samples: the smallest dense area.
        seed: of UMAP.
    """
    if len(vectors) < max(FEWEST_SAMPLES, 2 * min_topic_samples):
        return DenseAreas(vectors[:0], f"{len(vectors)} samples are too few to look for dense areas")
    model = _bare_top2vec(vectors)
    umap_args = {
        "n_neighbors": NUM_NEIGHBOURS, "n_components": NUM_COMPONENTS, "metric": "cosine", "random_state": seed,
        "n_jobs": 1, "init": initial_layout(vectors, NUM_COMPONENTS, seed),
    }  # fmt: skip
    if len(vectors) <= MOST_ALL_PAIRS:
        umap_args["precomputed_knn"] = nearest_neighbours(vectors, NUM_NEIGHBOURS)
    hdbscan_args = {
        "min_cluster_size": min_topic_samples, "metric": "euclidean", "cluster_selection_method": "eom",
        "core_dist_n_jobs": 1,
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.compute_topics(
                umap_args=umap_args, hdbscan_args=hdbscan_args, topic_merge_delta=MERGE_DISTANCE,
                gpu_umap=False, gpu_hdbscan=False, index_topics=False, contextual_top2vec=False,
                c_top2vec_smoothing_window=5,
            )  # fmt: skip
    except ValueError as problem:
        if "need at least one array" in str(problem):  # its way of saying that no dense area was found
            return DenseAreas(vectors[:0], "Top2Vec found no dense area")
        raise
    return DenseAreas(np.asarray(model.topic_vectors, dtype=np.float64))


def initial_layout(vectors: np.ndarray, num_components: int, seed: int) -> np.ndarray:
    """(num_samples, num_components) float32, where UMAP starts: the principal components, and a little noise.

    UMAP's own start is the graph's spectrum. In a part of the graph that hangs together equally everywhere, SciPy's
    eigen-solver (`eigsh`) goes on with random vectors that no seed of UMAP reaches, and the topics differ from run to
    run. Principal components are as good a start (Kobak & Linderman 2021, doi 10.1038/s41587-020-00809-z).
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    with one_thread():
        _, directions = np.linalg.eigh(centred.T @ centred)  # ascending
        places = centred @ directions[:, ::-1][:, :num_components]
    layout = np.zeros((len(vectors), num_components))
    layout[:, : places.shape[1]] = places
    spread = float(places.std(axis=0).max()) or 1.0
    noise = np.random.default_rng((seed, LAYOUT_PURPOSE)).normal(size=layout.shape)
    return (layout / spread + LAYOUT_NOISE * noise).astype(np.float32)


def nearest_neighbours(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and cosine distances, (num_samples, count) both, of each sample's nearest, itself the first.

    All pairs are compared: for 20,000 samples this takes as long as it takes to compile the approximate search that
    UMAP would do, and needs no such thing.
    """
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=count, algorithm="brute", metric="sqeuclidean").fit(vectors)
    with one_thread():
        distances, indices = search.kneighbors(vectors)
    return indices, (distances / 2).astype(np.float32)


def _bare_top2vec(vectors: np.ndarray) -> Any:
    from top2vec import Top2Vec

    logging.getLogger("top2vec").setLevel(logging.WARNING)
    model = Top2Vec.__new__(Top2Vec)  # its __init__ would train vectors of its own
    model.contextual_top2vec = False
    model.document_vectors = np.asarray(vectors, dtype=np.float32)
    # It ranks words by closeness to each topic; our keywords come from the counts of all samples, so one is enough.
    model.vocab = ["-"]
    model.word_vectors = np.zeros((1, vectors.shape[1]), np.float32)
    return model
