"""Intervals by resampling documents: of one run's number, and of the difference of two runs on the same documents.

Documents, not samples or tokens, are drawn with replacement, within each domain: a document's samples are alike, and
drawing them as if they were independent makes intervals too narrow. The draws of a domain depend on its name, its
number of documents and the seed alone, so that two runs measured on the same documents are resampled alike (paired).
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
LEVEL = 0.95
MIN_DOCUMENTS = 8
"""Below so many documents, percentiles of resampled means are far too narrow to judge by."""
MIN_PER_SOURCE = 2
"""Fewest documents of a source that show how much they vary: one alone is drawn every time."""
_CHUNK_ENTRIES = 4_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval (percentiles) and standard error, nan where they can't be known."""

    value: float
    low: float
    high: float
    stderr: float
    num_documents: int = MIN_DOCUMENTS
    """How many documents it rests on."""
    enough_documents: bool = True
    """Whether these are enough to judge by: at least `MIN_DOCUMENTS`, for an average as `_enough` counts them."""

    @property
    def is_known(self) -> bool:
        """Whether there is an interval at all."""
        return math.isfinite(self.low)

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is told apart from nothing at the interval's level; never by a handful of documents."""
        return self.enough_documents and (self.low > 0 or self.high < 0)


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


def replicates(scores: DocumentScores, num_replicates: int = REPLICATES, seed: int = SEED) -> dict[str, np.ndarray]:
    """Bits per byte under resampling: by source, 'macro' and 'micro', each of shape (num_replicates,)."""
    sums = {}
    for domain in scores.domains:
        own = scores.sources == domain
        columns = np.stack((scores.nats[own] / math.log(2), scores.num_bytes[own].astype(float)), axis=1)
        sums[domain] = _resampled_sums(columns, domain, num_replicates, seed)
    counts = scores.num_documents
    found = {domain: _widened(s[:, 0] / s[:, 1], counts[domain]) for domain, s in sums.items()}
    found[MACRO] = np.mean([found[d] for d in scores.domains], axis=0)
    total = np.sum(list(sums.values()), axis=0)
    ratio = scores.nats.sum() / math.log(2) / scores.num_bytes.sum()
    # total bits / total bytes, with what each source has beyond the ratio widened by itself
    beyond = [_widened(s[:, 0] - ratio * s[:, 1], counts[domain]) for domain, s in sums.items()]
    found[MICRO] = ratio + np.sum(beyond, axis=0) / total[:, 1]
    return found


def _widened(values: np.ndarray, num_documents: int) -> np.ndarray:
    """Undo the narrowness of a resample of few documents: its variance is (n-1)/n of the right one."""
    middle = values.mean()
    return middle + (values - middle) * math.sqrt(num_documents / max(num_documents - 1, 1))


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


def _intervals(values: dict[str, float], sampled: dict[str, np.ndarray], scores: DocumentScores) -> dict[str, Interval]:
    """The percentile intervals of resampled numbers, by source, 'macro' and 'micro'."""
    counts = scores.num_documents
    part = {d: float(scores.num_bytes[scores.sources == d].sum() / scores.num_bytes.sum()) for d in counts}
    spread = {d: float(np.var(sampled[d], ddof=1)) for d in counts}
    enough = {d: n >= MIN_DOCUMENTS for d, n in counts.items()}
    enough[MACRO] = _enough(counts, spread)
    enough[MICRO] = _enough(counts, {d: part[d] ** 2 * spread[d] for d in counts})
    found = {}
    for domain, value in values.items():
        low, high = np.quantile(sampled[domain], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        error = np.std(sampled[domain], ddof=1)
        if counts[domain] < MIN_PER_SOURCE if domain in counts else not scores.vary:
            low = high = error = math.nan
        num_documents = counts.get(domain, len(scores.ids))
        found[domain] = Interval(value, float(low), float(high), float(error), num_documents, enough[domain])
    return found


def _enough(counts: dict[str, int], variances: dict[str, float]) -> bool:
    """Whether the variance of an average over sources is known as well as that of `MIN_DOCUMENTS` of one source.

    Its degrees of freedom (Welch and Satterthwaite) are mostly the documents of those sources that vary most.
    """
    if min(counts.values()) < MIN_PER_SOURCE:
        return False
    total = sum(variances.values())
    if not total:
        return sum(counts.values()) >= MIN_DOCUMENTS
    freedom = total**2 / sum(variances[d] ** 2 / (counts[d] - 1) for d in counts)
    return freedom > MIN_DOCUMENTS - 1 - 1e-9


def intervals(scores: DocumentScores) -> dict[str, Interval]:
    """Bits per byte with intervals, by source, 'macro' and 'micro'."""
    return _intervals(bits_per_byte(scores), replicates(scores), scores)


def paired_differences(scores: DocumentScores, baseline: DocumentScores) -> dict[str, Interval]:
    """Bits per byte of a run minus the baseline's on the same documents; below zero is better than the baseline.

    Raises:
        ValueError: the documents differ.
    """
    if not scores.same_documents(baseline):
        raise ValueError("the runs were measured on different documents")
    ours, theirs = bits_per_byte(scores), bits_per_byte(baseline)
    sampled, other = replicates(scores), replicates(baseline)
    differences = {d: ours[d] - theirs[d] for d in ours}
    return _intervals(differences, {d: sampled[d] - other[d] for d in ours}, scores)


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
