"""Has numba compile what UMAP and HDBSCAN consist of: importing it takes their seconds, once."""

import warnings

import numpy as np
from hdbscan import HDBSCAN
from umap import UMAP

POINTS = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    UMAP(n_neighbors=5, n_components=5, metric="cosine", random_state=0, n_epochs=2).fit(POINTS)
    HDBSCAN(min_cluster_size=5).fit(POINTS)
