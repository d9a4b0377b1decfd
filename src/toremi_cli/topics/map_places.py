"""Where each sample lies on the map of a corpus: two dimensions of its vector, kept for the next page."""

from __future__ import annotations

import hashlib
import warnings
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from toremi_cli.files import atomic_file
from toremi_cli.plane import principal, spread
from toremi_cli.provenance import digest
from toremi_cli.topics.config import MapConfig

FEW_POINTS = 15
"""Below this many samples UMAP has no neighbourhoods to keep, and PCA is drawn."""
GRID = 10_000
"""Coordinates on the page are whole numbers from 0 to this."""


def project(vectors: np.ndarray, config: MapConfig, cache: Path | None = None) -> np.ndarray:
    """Two dimensions of `vectors` (num_points, dim), as whole numbers from 0 to `GRID`: (num_points, 2).

    UMAP takes half a minute, so what it finds is kept in the file `cache`, and taken from there for the same vectors.
    """
    if config.projection == "pca" or len(vectors) < FEW_POINTS or not np.ptp(vectors, axis=0).any():
        places = principal(vectors)
    else:
        key = digest(
            hashlib.sha256(vectors.tobytes()).hexdigest(), vectors.shape, config.seed, metadata.version("umap-learn")
        )
        found = _remembered(cache, key)
        places = _by_umap(vectors, config.seed) if found is None else found
        if found is None:
            _remember(cache, key, places)
    return np.rint(spread(places) * GRID).astype(np.int64)


def _by_umap(vectors: np.ndarray, seed: int) -> np.ndarray:
    """(num_points, 2) coordinates that keep neighbourhoods."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UMAP warns that a seed costs it its threads
        from umap import UMAP

        mapper = UMAP(n_neighbors=15, min_dist=0.15, metric="cosine", random_state=seed, init="pca")
        return np.asarray(mapper.fit_transform(vectors), dtype=np.float64)


def _remembered(cache: Path | None, key: str) -> np.ndarray | None:
    """The places that were kept under this key, None if there are none, or they can't be read."""
    with suppress(OSError, ValueError, KeyError, BadZipFile):
        if cache is not None:
            with np.load(cache) as kept:
                return kept["places"] if str(kept["key"]) == key else None
    return None


def _remember(cache: Path | None, key: str, places: np.ndarray) -> None:
    """Keep the places for the next page; a folder that can't be written to costs the next page its time, no more."""
    with suppress(OSError):
        if cache is not None:
            with atomic_file(cache) as temporary, temporary.open("wb") as file:
                np.savez(file, key=np.array(key), places=places)
