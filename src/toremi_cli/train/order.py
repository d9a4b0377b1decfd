"""In which order the samples come: a pure function of (fingerprint, seed, shares), the same on every rank.

An order hands out whole samples for ever. All it remembers is how many came from each stratum, so that a run goes on
exactly where it stopped, on any number of ranks; and all it reads of a sample is where it is looked up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from toremi_cli.lm.streams import derive_seed
from toremi_cli.reweight import StratumDraws
from toremi_cli.reweight.strata import mix64
from toremi_cli.train.shuffling import shuffled

ORDER_VERSION = 2
"""Rises when the same data comes in another order: a run that began in the old one can't go on."""


class SampleOrder:
    """Samples drawn from strata by shares that may change at any time.

    Within a stratum every sample comes once before any comes twice, each time in a new random order. With a single
    stratum that is every sample once an epoch.
    """

    def __init__(
        self, samples: np.ndarray, sizes: np.ndarray, length: np.ndarray, shares: np.ndarray, *key: object
    ) -> None:
        """Order some samples.

        Args:
            samples: (n,) indices of the samples to hand out, those of stratum 0 first, and so on; not empty.
            sizes: (num_strata,) int64 samples of each; they sum to n.
            length: (num_samples,) tokens of every sample of the cache, without its end.
            shares: (num_strata,) of the draws.
            key: what draws and orders are derived from: fingerprint, seed, …
        """
        self.samples, self.sizes, self.length = samples, sizes, length
        self.draws = StratumDraws(shares, *key, "draws")
        self._begins = np.cumsum(sizes) - sizes
        self._key = np.uint64(derive_seed(*key, "order"))
        self._mean_predicted = 256.0  # a guess, which decides nothing but how many draws are looked at

    def num_predicted(self, samples: np.ndarray) -> np.ndarray:
        """(n,) int64 predicted tokens of some samples: their own and the end."""
        return self.length[samples].astype(np.int64) + 1

    def take(self, num_tokens: int) -> np.ndarray:
        """The next samples: the fewest whose predicted tokens reach `num_tokens`; (n,) int64 sample indices."""
        if num_tokens <= 0:
            return np.zeros(0, np.int64)
        while True:
            count = int(1.05 * num_tokens / self._mean_predicted) + 16  # more each time than could be too few before
            samples = self._samples(*self.draws.peek(count))
            reached = np.cumsum(self.num_predicted(samples))
            self._mean_predicted = float(reached[-1]) / count
            if reached[-1] >= num_tokens:
                break
        taken = int(np.searchsorted(reached, num_tokens)) + 1
        self.draws.advance(taken)
        return samples[:taken]

    def _samples(self, strata: np.ndarray, ordinals: np.ndarray) -> np.ndarray:
        """(n,) int64 the sample of each draw."""
        sizes = self.sizes[strata]
        epochs, places = np.divmod(ordinals, sizes)
        key = mix64(mix64(self._key ^ strata.astype(np.uint64)) ^ epochs.astype(np.uint64))
        return self.samples[self._begins[strata] + shuffled(places, sizes, key)].astype(np.int64)

    def state_dict(self) -> dict[str, Any]:
        """Draws done, in all and by stratum, and the shares; JSON-able."""
        return self.draws.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.draws.load_state_dict(state)


def shuffled_order(samples: np.ndarray, length: np.ndarray, *key: object) -> SampleOrder:
    """Every sample once an epoch, each epoch in a new random order."""
    return SampleOrder(samples, np.array([len(samples)]), length, np.ones(1), *key)
