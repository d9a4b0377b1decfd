"""In which order the samples come: pure functions of (fingerprint, seed, state), the same on every rank.

An order hands out whole samples for ever. All it remembers is a handful of numbers, so that a run goes on exactly
where it stopped, on any number of ranks.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from toremi_cli.lm.streams import permutation
from toremi_cli.reweight.sampling import StratumDraws


class SampleOrder(Protocol):
    """An endless sequence of samples."""

    def take(self, num_tokens: int) -> np.ndarray:
        """The next samples: the fewest whose predicted tokens reach `num_tokens`; (n,) int64 sample indices."""

    def state_dict(self) -> dict[str, Any]:
        """Where the order stands, as JSON-able values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class ShuffledOrder:
    """Every sample once an epoch, each epoch in a new random order."""

    def __init__(self, samples: np.ndarray, num_predicted: np.ndarray, *key: object) -> None:
        """Order some samples.

        Args:
            samples: (n,) indices of the samples to hand out; not empty.
            num_predicted: (num_samples,) predicted tokens of every sample of the cache.
            key: what the random order is derived from: fingerprint, seed, …
        """
        self.samples, self.num_predicted, self.key = samples, num_predicted, key
        self.epoch = self.position = 0
        self._shuffled_epoch = -1
        self._shuffled = samples

    def take(self, num_tokens: int) -> np.ndarray:
        """The next samples; see `SampleOrder`."""
        pieces = []
        while num_tokens > 0:
            ahead = self._epoch_order()[self.position : self.position + _enough(num_tokens)]
            reached = np.cumsum(self.num_predicted[ahead], dtype=np.int64)
            count = min(int(np.searchsorted(reached, num_tokens)) + 1, len(ahead))
            pieces.append(ahead[:count])
            num_tokens -= int(reached[count - 1])
            self._advance(count)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def state_dict(self) -> dict[str, Any]:
        """Epoch and position."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def _advance(self, count: int) -> None:
        self.position += count
        if self.position == len(self.samples):
            self.epoch, self.position = self.epoch + 1, 0

    def _epoch_order(self) -> np.ndarray:
        if self._shuffled_epoch != self.epoch:
            self._shuffled = self.samples[permutation(len(self.samples), *self.key, "order", self.epoch)]
            self._shuffled_epoch = self.epoch
        return self._shuffled


class DrawnOrder:
    """Adaptive sampling: samples drawn from strata by shares that may change at any time.

    Within a stratum every sample comes once before any comes twice, each time in a new random order.
    """

    def __init__(
        self, samples: np.ndarray, stratum_of: np.ndarray, num_predicted: np.ndarray, shares: np.ndarray, *key: object
    ) -> None:
        """Order some samples.

        Args:
            samples: (n,) indices of the samples to hand out; not empty.
            stratum_of: (n,) stratum of each.
            num_predicted: (num_samples,) predicted tokens of every sample of the cache.
            shares: (num_strata,) of the draws.
            key: what draws and orders are derived from: fingerprint, seed, …
        """
        self.num_predicted, self.key = num_predicted, key
        self.draws = StratumDraws(shares, *key, "draws")
        self.sizes = np.bincount(stratum_of, minlength=len(shares))
        self._members = samples[np.argsort(stratum_of, kind="stable")]  # grouped by stratum
        self._begins = np.cumsum(self.sizes) - self.sizes
        self._mean_predicted = float(num_predicted[samples].mean())
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def take(self, num_tokens: int) -> np.ndarray:
        """The next samples; see `SampleOrder`."""
        if num_tokens <= 0:
            return np.zeros(0, np.int64)
        count = int(1.3 * num_tokens / self._mean_predicted) + 4
        while True:
            samples = self._samples(*self.draws.peek(count))
            reached = np.cumsum(self.num_predicted[samples], dtype=np.int64)
            if reached[-1] >= num_tokens:
                break
            count *= 2
        taken = int(np.searchsorted(reached, num_tokens)) + 1
        self.draws.advance(taken)
        return samples[:taken]

    def _samples(self, strata: np.ndarray, ordinals: np.ndarray) -> np.ndarray:
        """(n,) the sample of each draw."""
        epochs, positions = np.divmod(ordinals, self.sizes[strata])
        found = np.empty(len(strata), np.int64)
        order = np.lexsort((epochs, strata))
        new_run = (np.diff(strata[order]) != 0) | (np.diff(epochs[order]) != 0)
        for draws in np.split(order, np.flatnonzero(new_run) + 1):
            members = self._epoch_order(int(strata[draws[0]]), int(epochs[draws[0]]))
            found[draws] = members[positions[draws]]
        return found

    def _epoch_order(self, stratum: int, epoch: int) -> np.ndarray:
        if (stratum, epoch) not in self._orders:
            begin, size = int(self._begins[stratum]), int(self.sizes[stratum])
            order = permutation(size, *self.key, "order", stratum, epoch)
            self._orders[stratum, epoch] = self._members[begin : begin + size][order]
            self._orders.pop((stratum, epoch - 2), None)
        return self._orders[stratum, epoch]

    def state_dict(self) -> dict[str, Any]:
        """Draws done, in all and by stratum, and the shares."""
        return self.draws.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.draws.load_state_dict(state)


def _enough(num_tokens: int) -> int:
    """A bound on how many samples can be needed: a sample predicts at least two tokens (its own and the end)."""
    return num_tokens // 2 + 1
