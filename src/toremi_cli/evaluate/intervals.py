"""Intervals over documents: of one run's bits per byte, and of the difference of two runs on the same documents.

A source's interval is made of random halves of its documents (Hartigan 1969, "Using subsample values as typical
values"): if what each document has beyond the true ratio is as likely above as below, that ratio falls between any two
neighbouring values of the halves with the same chance, whatever the documents' lengths and spreads are. So the share
of wrong intervals is the promised one also for a few documents of very unequal lengths, where percentiles of a
bootstrap and t intervals are too narrow (`benchmarks/interval_coverage.py`). Averages over sources take the jackknife's
standard error of each, and as many degrees of freedom as these are worth together (Welch and Satterthwaite).

Documents are what is drawn, not samples or tokens: a document's samples are alike.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from toremi_cli.evaluate.bootstrap import MIN_PER_SOURCE, SEED, DocumentScores
from toremi_cli.schemas import MACRO, MICRO

LEVEL = 0.95
MIN_DOCUMENTS = 8
"""Below so many documents of a source, whatever its interval says, it is not judged by."""
NUM_HALVES = 1999
"""Random halves of many documents; of a few (2**n - 1 <= 2047) all are taken."""
_ENUMERATED = 11
_CHUNK_ENTRIES = 4_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% interval and standard error, nan where they can't be known."""

    value: float
    low: float
    high: float
    stderr: float
    num_documents: int = MIN_DOCUMENTS
    """How many documents it rests on."""
    enough_documents: bool = True
    """Whether these are enough to judge by: at least `MIN_DOCUMENTS`, or as many degrees of freedom of an average."""
    p_value: float = math.nan
    """Chance of a value so far from zero if the true one is zero."""

    @property
    def is_known(self) -> bool:
        """Whether there is an interval at all."""
        return math.isfinite(self.low)

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is told apart from nothing at the interval's level; never by a handful of documents."""
        return self.enough_documents and (self.low > 0 or self.high < 0)


def intervals(scores: DocumentScores) -> dict[str, Interval]:
    """Bits per byte with intervals, by source, 'macro' and 'micro'."""
    return _by_domain(scores, scores.nats / math.log(2))


def paired_differences(scores: DocumentScores, baseline: DocumentScores) -> dict[str, Interval]:
    """Bits per byte of a run minus the baseline's on the same documents; below zero is better than the baseline.

    Raises:
        ValueError: the documents differ.
    """
    if not scores.same_documents(baseline):
        raise ValueError("the runs were measured on different documents")
    return _by_domain(scores, (scores.nats - baseline.nats) / math.log(2))


def surely_different(differences: Mapping[str, Interval]) -> set[str]:
    """Domains whose difference is told apart from nothing: the averages each by its own interval, the sources together.

    Of many sources without any difference one in twenty has an interval that leaves out zero. Their p values are
    corrected for their number (Holm 1979): the chance that any of them is named wrongly is at most 5%.
    """
    sure = {domain for domain in (MACRO, MICRO) if domain in differences and differences[domain].excludes_zero}
    tested = [(i.p_value, d) for d, i in differences.items() if d not in (MACRO, MICRO) and i.enough_documents]
    for rank, (p_value, domain) in enumerate(sorted(tested)):
        if not p_value <= (1 - LEVEL) / (len(tested) - rank):
            break
        sure.add(domain)
    return sure


def _by_domain(scores: DocumentScores, bits: np.ndarray) -> dict[str, Interval]:
    """Intervals of summed `bits` a byte, by source, 'macro' and 'micro'; `bits` (num_documents,)."""
    domains, counts = scores.domains, scores.num_documents
    found: dict[str, Interval] = {}
    sizes = []
    for domain in domains:
        own = scores.sources == domain
        num_bytes = scores.num_bytes[own].astype(float)
        found[domain] = _of_source(domain, bits[own], num_bytes)
        sizes.append(num_bytes.sum())
    of_sources = [found[domain] for domain in domains]
    freedoms = [counts[domain] - 1 for domain in domains]
    found[MACRO] = _average(of_sources, np.full(len(domains), 1 / len(domains)), freedoms)
    found[MICRO] = _average(of_sources, np.array(sizes) / sum(sizes), freedoms)
    return found


def _of_source(domain: str, bits: np.ndarray, num_bytes: np.ndarray) -> Interval:
    """The interval of sum(bits) / sum(num_bytes) by halves; of fewer than six documents, which have none, by t."""
    count, total = len(bits), num_bytes.sum()
    ratio = float(bits.sum() / total)
    if count < MIN_PER_SOURCE:
        return Interval(ratio, math.nan, math.nan, math.nan, count, False)
    # what each document changes in the ratio of the others (jackknife), linearised
    moved = (bits - ratio * num_bytes) / np.maximum(total - num_bytes, 1e-9)
    stderr = float(math.sqrt((moved**2).sum()))
    halves = _ratios_of_halves(domain, bits, num_bytes)
    outside = math.floor((1 - LEVEL) / 2 * (len(halves) + 1))
    half_width, p_value = _by_t(ratio, stderr, count - 1)
    low, high = ratio - half_width, ratio + half_width
    if outside:
        low, high = halves[outside - 1], halves[-outside]
        beyond = int((halves <= 0).sum() if ratio > 0 else (halves >= 0).sum())
        counted = 2 * (beyond + 1) / (len(halves) + 1)
        # where no random half is beyond zero, they only say that the chance is less than they can resolve
        p_value = min(counted, p_value) if not beyond and count > _ENUMERATED else min(counted, 1.0)
    return Interval(ratio, float(low), float(high), stderr, count, count >= MIN_DOCUMENTS, p_value)


def _ratios_of_halves(domain: str, bits: np.ndarray, num_bytes: np.ndarray) -> np.ndarray:
    """(num_halves,) sorted ratios of subsets that hold each document with a chance of one half; none is empty."""
    columns = np.stack((bits, num_bytes), axis=1)
    sums = np.concatenate([subsets.astype(float) @ columns for subsets in _subsets(domain, len(bits))])
    return np.sort(sums[:, 0] / sums[:, 1])


def _subsets(domain: str, count: int) -> Iterator[np.ndarray]:
    """(num_subsets, count) bool, in parts: all subsets of few documents, random ones of many."""
    if count <= _ENUMERATED:
        yield (np.arange(1, 2**count)[:, None] >> np.arange(count)) & 1 == 1
        return
    digest = hashlib.sha256(f"halves|{SEED}|{domain}|{count}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    ends = [*range(0, NUM_HALVES, max(_CHUNK_ENTRIES // count, 1)), NUM_HALVES]
    for begin, end in pairwise(ends):
        drawn = generator.integers(0, 2, (end - begin, count), dtype=np.int8).astype(bool)
        drawn[~drawn.any(axis=1)] = True
        yield drawn


def _average(sources: list[Interval], parts: np.ndarray, freedoms: list[int]) -> Interval:
    """The average of sources with weights `parts` (num_sources,)."""
    value = float(parts @ [source.value for source in sources])
    num_documents = sum(source.num_documents for source in sources)
    if len(sources) == 1:
        return sources[0]
    if not all(source.is_known for source in sources):
        return Interval(value, math.nan, math.nan, math.nan, num_documents, False)
    variances = parts**2 * np.array([source.stderr for source in sources]) ** 2
    freedom = sum(freedoms) if not variances.any() else variances.sum() ** 2 / (variances**2 / freedoms).sum()
    stderr = math.sqrt(variances.sum())
    half_width, p_value = _by_t(value, stderr, float(freedom))
    enough = freedom > MIN_DOCUMENTS - 1 - 1e-9
    return Interval(value, value - half_width, value + half_width, stderr, num_documents, bool(enough), p_value)


def _by_t(value: float, stderr: float, freedom: float) -> tuple[float, float]:
    """Half the width of a t interval, and the p value of `value`."""
    from scipy.stats import t

    p_value = float(2 * t.sf(abs(value) / stderr, freedom)) if stderr else float(value == 0)
    return float(t.ppf((1 + LEVEL) / 2, freedom)) * stderr, p_value
