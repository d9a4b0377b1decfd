"""Adaptive sampling: which stratum each next sample is drawn from. Pure index arithmetic in numpy.

A *stratum* is a set of samples that are drawn at the same rate: those of one topic, or, where samples carry several
topics, those of one distinct set of topics. Weight times size gives the sampling shares, between a floor, so that
every topic stays measured, and a cap, so that no sample is repeated too often. Draws are a low-discrepancy sequence:
a pure function of (seed, draw index, shares), so that the state of a run is one index and a count for each stratum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_STRATA = 4096
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: the Weyl sequence n * _GOLDEN mod 2^64 has the lowest discrepancy of its kind."""


@dataclass(frozen=True)
class Strata:
    """A partition of the samples, and what topics each part carries."""

    stratum_of: np.ndarray
    """(num_samples,) int64: the stratum of each sample."""
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


def build_strata(
    indptr: np.ndarray, topic: np.ndarray, prob: np.ndarray, *, soft: bool = False, max_strata: int = MAX_STRATA
) -> Strata:
    """Partition samples by their topics.

    Args:
        indptr: (num_samples + 1,) int64: sample i has the pairs indptr[i] to indptr[i + 1].
        topic: (P,) int64 topic of each pair.
        prob: (P,) its probability; all 1 for hard sets.
        soft: partition by the most probable topic instead of by the set of topics.
        max_strata: the rarest sets beyond this many join the stratum of their first topic.
    """
    num_samples = len(indptr) - 1
    counts = np.diff(indptr)
    sample = np.repeat(np.arange(num_samples), counts)
    keys = _top_topic_keys(num_samples, sample, topic, prob) if soft else _set_keys(indptr, topic)
    names, stratum_of = np.unique(keys, return_inverse=True)
    if len(names) > max_strata:
        is_rare = np.zeros(len(names), bool)
        is_rare[np.argsort(-np.bincount(stratum_of), kind="stable")[max_strata // 2 :]] = True
        joining = is_rare[stratum_of] & (counts > 0)
        first = np.minimum.reduceat(topic, indptr[:-1][counts > 0]) if len(topic) else topic
        keys[joining] = _topic_keys(first[joining[counts > 0]])  # as if it carried this topic alone
        names, stratum_of = np.unique(keys, return_inverse=True)
    share = prob / np.maximum(np.bincount(sample, prob, num_samples), 1e-300)[sample]
    size = np.bincount(stratum_of, minlength=len(names))
    num_topics = int(topic.max()) + 1 if len(topic) else 1
    cells, cell_of = np.unique(stratum_of[sample] * num_topics + topic, return_inverse=True)
    mean_share = np.bincount(cell_of, share, len(cells)) / size[cells // num_topics]
    return Strata(stratum_of.astype(np.int64), size, cells // num_topics, cells % num_topics, mean_share)


def _topic_keys(topic: np.ndarray) -> np.ndarray:
    """(n,) uint64: a random-looking number for each topic (the finaliser of splitmix64)."""
    z = (topic.astype(np.uint64) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _set_keys(indptr: np.ndarray, topic: np.ndarray) -> np.ndarray:
    """(num_samples,) uint64: the sum of its topics' keys: a number for each distinct set; 0 for none."""
    keys = np.zeros(len(indptr) - 1, np.uint64)
    has_topics = np.diff(indptr) > 0
    if len(topic):
        keys[has_topics] = np.add.reduceat(_topic_keys(topic), indptr[:-1][has_topics])
    return keys


def _top_topic_keys(num_samples: int, sample: np.ndarray, topic: np.ndarray, prob: np.ndarray) -> np.ndarray:
    """(num_samples,) uint64: a number for the most probable topic, the lowest of equals; 0 for none."""
    order = np.lexsort((topic, -prob, sample))
    owner, first = np.unique(sample[order], return_index=True)
    keys = np.zeros(num_samples, np.uint64)
    keys[owner] = _topic_keys(topic[order][first])
    return keys


def sampling_shares(
    weights: np.ndarray,
    sizes: np.ndarray,
    *,
    floor: float = 0.0,
    max_repeats: float | None = None,
    drawn: np.ndarray | None = None,
    remaining: int = 0,
) -> np.ndarray:
    """(num_strata,) float64 shares of the draws: proportional to weight times size, between floor and cap.

    Args:
        weights: (num_strata,) objective weight of each stratum.
        sizes: (num_strata,) samples of each stratum.
        floor: lowest rate, as a fraction of the natural one (size over all sizes).
        max_repeats: no stratum shall be drawn more often in the whole run than this times its size; None: no cap. Where
            the run is longer than that allows, all are repeated alike beyond it.
        drawn: (num_strata,) draws so far.
        remaining: draws still to come in the run; needed for the cap.
    """
    sizes = np.asarray(sizes, np.float64)
    natural = sizes / sizes.sum()
    wanted = np.maximum(np.asarray(weights, np.float64), 0) * sizes
    wanted = wanted / wanted.sum() if wanted.sum() > 0 else natural
    low, high = floor * natural, np.where(sizes > 0, 1.0, 0.0)
    if max_repeats and remaining:
        left = np.maximum(max_repeats * sizes - (0 if drawn is None else drawn), 0) / remaining
        if left.sum() <= 1:
            return left / left.sum() if left.sum() > 0 else natural
        high = np.minimum(high, left)
    return shares_between(wanted, low, high)


def shares_between(wanted: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Shares clip(c * wanted, low, high) with the factor c that makes them add up to 1; sum(low) <= 1 <= sum(high).

    Where a low bound exceeds the high one, the high one holds, as np.clip has it.
    """
    wanted = np.where(
        high > 0, np.maximum(wanted, 1e-12), 0.0
    )  # so that a weight of 0 can grow where others are capped
    shares = np.clip(factor_between(wanted, low, high) * wanted, low, high)
    return shares / shares.sum()


def factor_between(wanted: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The factor c with which clip(c * wanted, low, high) adds up to 1; sum(low) <= 1 <= sum(high)."""
    below, above = 0.0, 1.0
    while np.clip(above * wanted, low, high).sum() < 1 and above < 1e30:
        above *= 2
    for _ in range(200):
        middle = (below + above) / 2
        if np.clip(middle * wanted, low, high).sum() < 1:
            below = middle
        else:
            above = middle
    return above


def importance(weights: np.ndarray, sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(num_strata,) factor on the loss that makes draws by `shares` optimise the objective of `weights`.

    Natural share times weight over sampling share: 1 wherever the shares follow the weights, up to a common factor that
    makes its mean over the draws 1; more where a cap held a stratum back, less where the floor raised it. With weights
    of 1 it is the inverse propensity under which losses are tracked without bias.
    """
    objective = np.asarray(weights, np.float64) * np.asarray(sizes, np.float64)
    objective = objective / objective.sum()
    return np.divide(objective, shares, out=np.zeros_like(objective), where=np.asarray(shares) > 0)


class StratumDraws:
    """An endless sequence of strata: draw n is a pure function of (seed, n, the shares in force).

    Over any stretch of draws under the same shares, each stratum comes up within a few of its exact share.
    """

    def __init__(self, shares: np.ndarray, *key: object) -> None:
        """Begin with `shares`, (num_strata,); `key` is what the sequence is derived from: seed, purpose."""
        text = "\x1f".join(map(str, key))
        self._offset = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint64)[0]
        self.index = 0
        """Draws done."""
        self.counts = np.zeros(len(shares), np.int64)
        """(num_strata,) draws done from each stratum."""
        self.set_shares(shares)

    def set_shares(self, shares: np.ndarray) -> None:
        """Draw by other shares from the next draw on."""
        self.shares = np.asarray(shares, np.float64)
        edges = np.minimum(np.cumsum(self.shares)[:-1], 1.0) * 2.0**64
        # float64 rounds the edges to 53 bits: the same everywhere, and far finer than any share.
        self._edges = np.minimum(edges, np.nextafter(2.0**64, 0)).astype(np.uint64)

    def peek(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The next draws, without doing them.

        Returns:
            strata: (count,) int64.
            ordinals: (count,) int64: how many draws from the same stratum came before, from the run's beginning.
                Draw k of a stratum of n samples is sample k % n of its epoch k // n.
        """
        n = np.arange(self.index, self.index + count, dtype=np.uint64)
        strata = np.searchsorted(self._edges, self._offset + n * _GOLDEN, side="right").astype(np.int64)
        order = np.argsort(strata, kind="stable")
        begins = np.searchsorted(strata[order], np.arange(len(self.counts)))
        ordinals = np.empty(count, np.int64)
        ordinals[order] = np.arange(count) - begins[strata[order]] + self.counts[strata[order]]
        return strata, ordinals

    def advance(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Do the next draws and return them as `peek` does."""
        strata, ordinals = self.peek(count)
        self.index += count
        self.counts = self.counts + np.bincount(strata, minlength=len(self.counts))
        return strata, ordinals

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state."""
        return {"index": self.index, "counts": self.counts.tolist(), "shares": self.shares.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave.

        Raises:
            ValueError: the state is of other strata.
        """
        if len(state["counts"]) != len(self.counts):
            raise ValueError(f"the state is of {len(state['counts'])} strata, not of {len(self.counts)}")
        self.index, self.counts = int(state["index"]), np.array(state["counts"], np.int64)
        self.set_shares(np.array(state["shares"]))
