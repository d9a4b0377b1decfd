"""Scores by document, and resampling them: for curves of several checkpoints, whose crossings have no closed form.

Documents, not samples or tokens, are drawn with replacement, within each domain: a document's samples are alike, and
drawing them as if they were independent makes intervals too narrow. The draws of a domain depend on its name, its
number of documents and the seed alone, so that all checkpoints measured on the same documents are resampled alike.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toremi_cli.schemas import MACRO, MICRO

REPLICATES = 1000
SEED = 0
MIN_PER_SOURCE = 2
"""Fewest documents of a source that show how much they vary: one alone is drawn every time."""
_CHUNK_ENTRIES = 4_000_000


@dataclass(frozen=True)
class DocumentScores:
    """Summed losses by document; arrays of shape (num_documents,), documents in the order of source and id."""

    sources: np.ndarray
    ids: np.ndarray
    nats: np.ndarray
    num_tokens: np.ndarray
    num_bytes: np.ndarray

    @property
    def domains(self) -> list[str]:
        """The sources, by name."""
        return sorted(set(self.sources.tolist()))

    @property
    def num_documents(self) -> dict[str, int]:
        """Documents of each source."""
        names, counts = np.unique(self.sources, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    @property
    def vary(self) -> bool:
        """Whether each source has enough documents to show how much they vary, so that averages have a spread."""
        return min(self.num_documents.values()) >= MIN_PER_SOURCE

    def only(self, domains: Sequence[str]) -> DocumentScores:
        """The documents of some sources."""
        own = np.isin(self.sources, list(domains))
        columns = (self.sources, self.ids, self.nats, self.num_tokens, self.num_bytes)
        return DocumentScores(*(column[own] for column in columns))

    def same_documents(self, other: DocumentScores) -> bool:
        """Whether both were measured on the same texts."""
        return (
            np.array_equal(self.ids, other.ids)
            and np.array_equal(self.sources, other.sources)
            and np.array_equal(self.num_bytes, other.num_bytes)
        )


def bits_per_byte(scores: DocumentScores) -> dict[str, float]:
    """By source, and 'macro' and 'micro'."""
    found = {}
    for domain in scores.domains:
        own = scores.sources == domain
        found[domain] = float(scores.nats[own].sum() / scores.num_bytes[own].sum() / math.log(2))
    found[MACRO] = float(np.mean([found[d] for d in scores.domains]))
    found[MICRO] = float(scores.nats.sum() / scores.num_bytes.sum() / math.log(2))
    return found


def macro_replicates(scores: DocumentScores, num_replicates: int = REPLICATES, seed: int = SEED) -> np.ndarray:
    """Macro bits per byte under resampling: (num_replicates,).

    A resample of few documents varies too little, (n-1)/n of the right variance: each source's spread is widened.
    """
    found = []
    for domain in scores.domains:
        own = scores.sources == domain
        columns = np.stack((scores.nats[own] / math.log(2), scores.num_bytes[own].astype(float)), axis=1)
        sums = _resampled_sums(columns, domain, num_replicates, seed)
        values = sums[:, 0] / sums[:, 1]
        middle, count = values.mean(), len(columns)
        found.append(middle + (values - middle) * math.sqrt(count / max(count - 1, 1)))
    return np.mean(found, axis=0)


def _resampled_sums(columns: np.ndarray, domain: str, num_replicates: int, seed: int) -> np.ndarray:
    """(num_documents, k) -> (num_replicates, k): sums over documents drawn with replacement."""
    num_documents = len(columns)
    digest = hashlib.sha256(f"bootstrap|{seed}|{domain}|{num_documents}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    chunk = max(_CHUNK_ENTRIES // num_documents, 1)
    parts = []
    for begin in range(0, num_replicates, chunk):
        size = min(chunk, num_replicates - begin)
        draws = generator.integers(0, num_documents, (size, num_documents), dtype=np.int64)
        parts.append(columns[draws].sum(axis=1))
    return np.concatenate(parts)


def macro_bits_per_byte(scores: DocumentScores) -> float:
    """Unweighted mean over sources."""
    return bits_per_byte(scores)[MACRO]


def tokens_to_reach(tokens: Sequence[float] | np.ndarray, values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Tokens at which a falling curve first comes down to the target, linear between its points.

    Args:
        tokens: (num_points,) increasing.
        values: (num_points, num_curves).
        target: (num_curves,).

    Returns:
        (num_curves,) tokens; nan where the curve never comes down to the target.
    """
    tokens = np.asarray(tokens, dtype=float)
    reached = values <= target[None, :]
    first = reached.argmax(axis=0)
    curves = np.arange(values.shape[1])
    before = np.maximum(first - 1, 0)
    high, low = values[before, curves], values[first, curves]
    part = np.where(first > 0, (high - target) / np.where(high > low, high - low, 1.0), 1.0)
    found = tokens[before] + part * (tokens[first] - tokens[before])
    return np.where(reached.any(axis=0), found, np.nan)
