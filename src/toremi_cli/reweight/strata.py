"""Strata: the samples parted by their topics, in bounded memory however many there are.

Arrays may be memory maps: they are read, and written, a stretch of samples at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

MAX_STRATA = 4096
CHUNK = 1 << 20
"""Samples that are looked at at a time."""
New = Callable[[int, Any], np.ndarray]
"""Makes an array of so many zeros of a type; in memory, or mapped to a file."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: the Weyl sequence n * GOLDEN mod 2^64 has the lowest discrepancy of its kind."""


@dataclass(frozen=True)
class Strata:
    """A partition of the samples, and what topics each part carries."""

    stratum_of: np.ndarray
    """(num_samples,) the stratum of each sample; 0 where it isn't counted."""
    num_samples: np.ndarray
    """(num_strata,) int64: its samples."""
    pair_stratum: np.ndarray
    """(P,) int64"""
    pair_topic: np.ndarray
    """(P,) int64"""
    pair_prob: np.ndarray
    """(P,) float64: mean probability of the topic over the stratum's samples; sums to 1 in a stratum with topics."""

    def weights(self, topic_weights: Sequence[float] | np.ndarray) -> np.ndarray:
        """(num_strata,) float64: the mean of its topics' weights; 1 for the samples without topics."""
        of_pair = np.asarray(topic_weights, np.float64)[self.pair_topic] * self.pair_prob
        weights = np.bincount(self.pair_stratum, of_pair, len(self.num_samples))
        total = np.bincount(self.pair_stratum, self.pair_prob, len(self.num_samples))
        return np.where(total > 0, weights / np.maximum(total, 1e-300), 1.0)


class Sums:
    """Sums by a key, to which values are added a stretch at a time."""

    def __init__(self, dtype: Any) -> None:
        self.keys = np.zeros(0, dtype)
        """(num_keys,) those seen, rising."""
        self.values = np.zeros(0)
        """(num_keys,) float64"""

    def add(self, keys: np.ndarray, values: np.ndarray | None = None) -> None:
        """Add (n,) values, or 1 each, to those of their keys."""
        found, place = np.unique(keys, return_inverse=True)
        sums = np.bincount(place, values, len(found))
        self.keys, place = np.unique(np.concatenate([self.keys, found]), return_inverse=True)
        both = np.concatenate([self.values, sums.astype(np.float64)])
        self.values = np.bincount(place, both, len(self.keys)).astype(np.float64)


class _Rows:
    """A stretch of samples: each one's topics and probabilities as CSR rows, and whether it counts."""

    def __init__(
        self, part: slice, indptr: np.ndarray, topic: np.ndarray, prob: np.ndarray, counted: np.ndarray | None
    ) -> None:
        begins = indptr[part.start : part.stop + 1]
        pairs = slice(int(begins[0]), int(begins[-1]))
        self.part, self.indptr = part, begins - begins[0]
        self.topic, self.prob = topic[pairs].astype(np.int64), prob[pairs].astype(np.float64)
        self.num_topics = np.diff(self.indptr)
        self.sample = np.repeat(np.arange(len(self.num_topics)), self.num_topics)
        self.counted = np.ones(len(self.num_topics), bool) if counted is None else counted[part]


def build_strata(
    indptr: np.ndarray,
    topic: np.ndarray,
    prob: np.ndarray,
    *,
    soft: bool = False,
    max_strata: int = MAX_STRATA,
    counted: np.ndarray | None = None,
    new: New = np.zeros,
) -> Strata:
    """Partition samples by their topics.

    Args:
        indptr: (num_samples + 1,) int64: sample i has the pairs indptr[i] to indptr[i + 1].
        topic: (P,) topic of each pair.
        prob: (P,) its probability; all 1 for hard sets.
        soft: partition by the most probable topic instead of by the set of topics.
        max_strata: the rarest sets beyond this many join the stratum of their first topic.
        counted: (num_samples,) bool: the samples to partition; None for all.
        new: makes `stratum_of`.
    """

    def stretches() -> Iterator[_Rows]:
        return (_Rows(part, indptr, topic, prob, counted) for part in chunks_of(len(indptr) - 1))

    def count(keys_of: Callable[[_Rows], np.ndarray]) -> Sums:
        found = Sums(np.uint64)
        for rows in stretches():
            found.add(keys_of(rows)[rows.counted])
        return found

    keys_of = _top_topic_keys if soft else _set_keys
    names = count(keys_of)
    if len(names.keys) > max_strata:
        rare = np.sort(names.keys[np.argsort(-names.values, kind="stable")[max_strata // 2 :]])
        keys_of = partial(_joined_keys, keys_of, rare)
        names = count(keys_of)
    num_strata = len(names.keys)
    stratum_of = new(len(indptr) - 1, np.min_scalar_type(num_strata))
    shares = Sums(np.int64)
    num_topics = int(topic.max()) + 1 if len(topic) else 1
    for rows in stretches():
        stratum = np.where(rows.counted, np.searchsorted(names.keys, keys_of(rows)), 0)
        stratum_of[rows.part] = stratum
        share = rows.prob / np.maximum(np.bincount(rows.sample, rows.prob, len(stratum)), 1e-300)[rows.sample]
        kept = rows.counted[rows.sample]
        shares.add(stratum[rows.sample[kept]] * num_topics + rows.topic[kept], share[kept])
    of = shares.keys // num_topics
    return Strata(
        stratum_of, names.values.astype(np.int64), of, shares.keys % num_topics, shares.values / names.values[of]
    )


def grouped(
    stratum_of: np.ndarray, sizes: np.ndarray, counted: np.ndarray | None = None, new: New = np.zeros
) -> np.ndarray:
    """(n,) the samples that count, as `build_strata` takes them: of stratum 0, of stratum 1, …, rising in each."""
    members = new(int(sizes.sum()), np.uint32 if len(stratum_of) < 2**32 else np.int64)
    filled = np.cumsum(sizes) - sizes  # where each stratum goes on
    for part in chunks_of(len(stratum_of)):
        strata = stratum_of[part]
        samples = np.arange(len(strata)) if counted is None else np.flatnonzero(counted[part])
        order = np.argsort(strata[samples], kind="stable")
        sorted_strata = strata[samples[order]]
        number = np.bincount(sorted_strata, minlength=len(sizes))
        within = np.arange(len(samples)) - (np.cumsum(number) - number)[sorted_strata]
        members[filled[sorted_strata] + within] = part.start + samples[order]
        filled += number
    return members


def chunks_of(num_samples: int) -> Iterator[slice]:
    """Stretches of samples that together are all of them."""
    return (slice(begin, min(begin + CHUNK, num_samples)) for begin in range(0, num_samples, CHUNK))


def mix64(number: np.ndarray) -> np.ndarray:
    """(n,) uint64: another, random-looking number for each (the finaliser of splitmix64)."""
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


def _topic_keys(topic: np.ndarray) -> np.ndarray:
    """(n,) uint64: a number for each topic."""
    return mix64((topic.astype(np.uint64) + np.uint64(1)) * GOLDEN)


def _set_keys(rows: _Rows) -> np.ndarray:
    """(n,) uint64: the sum of its topics' keys: a number for each distinct set; 0 for none."""
    keys = np.zeros(len(rows.num_topics), np.uint64)
    has_topics = rows.num_topics > 0
    if len(rows.topic):
        keys[has_topics] = np.add.reduceat(_topic_keys(rows.topic), rows.indptr[:-1][has_topics])
    return keys


def _top_topic_keys(rows: _Rows) -> np.ndarray:
    """(n,) uint64: a number for the most probable topic, the lowest of equals; 0 for none."""
    order = np.lexsort((rows.topic, -rows.prob, rows.sample))
    owner, first = np.unique(rows.sample[order], return_index=True)
    keys = np.zeros(len(rows.num_topics), np.uint64)
    keys[owner] = _topic_keys(rows.topic[order][first])
    return keys


def _joined_keys(keys_of: Callable[[_Rows], np.ndarray], rare: np.ndarray, rows: _Rows) -> np.ndarray:
    """(n,) uint64: those of samples of `rare` keys as if they carried their first topic alone."""
    keys, has_topics = keys_of(rows), rows.num_topics > 0
    first = np.zeros(len(keys), np.int64)
    if len(rows.topic):
        first[has_topics] = np.minimum.reduceat(rows.topic, rows.indptr[:-1][has_topics])
    return np.where(has_topics & np.isin(keys, rare), _topic_keys(first), keys)
