"""Adaptive sampling: which stratum each next sample is drawn from. Pure index arithmetic in numpy.

A *stratum* is a set of samples that are drawn at the same rate: those of one topic, or, where samples carry several
topics, those of one distinct set of topics (see `strata`). Weight times size gives the sampling shares, between a
floor, so that every topic stays measured, and a cap, so that no sample is repeated too often. Draws are a
low-discrepancy sequence: a pure function of (seed, draw index, shares), so that the state of a run is one index and a
count for each stratum.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from toremi_cli.reweight.strata import GOLDEN


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
        strata = np.searchsorted(self._edges, self._offset + n * GOLDEN, side="right").astype(np.int64)
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
