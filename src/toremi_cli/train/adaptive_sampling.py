"""Adaptive sampling in a run: the strata of its training samples, and what the shares of the draws imply."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from toremi_cli.reweight import PolicyConfig, importance, sampling_shares
from toremi_cli.train.index import SampleIndex
from toremi_cli.train.order import SampleOrder

NOTICEABLE = 0.01
"""By what fraction `max_repeats` may be passed: lengths are known in the mean only."""


class AdaptiveSampling:
    """Draws training samples by weight times size; every rank holds the same."""

    def __init__(
        self, index: SampleIndex, length: np.ndarray, config: PolicyConfig, *key: object, corrects_loss: bool
    ) -> None:
        """Draw training samples by their natural shares, until the first `update`.

        Args:
            index: the samples, by stratum.
            length: (num_samples,) tokens of every sample of the cache, without its end.
            config: the policy's, for floor and cap.
            key: what the draws are derived from.
            corrects_loss: `apply=both`: the loss makes up for what floor and cap keep the shares from following.
        """
        self.config, self.corrects_loss, self.strata = config, corrects_loss, index.strata
        self.num_topics = len(index.pairs.names)
        sizes = self.strata.num_samples
        self.mean_predicted = float(index.stratum_tokens.sum() / sizes.sum())
        self.stratum_predicted = index.stratum_tokens / sizes
        """(num_strata,) mean predicted tokens of each stratum's samples."""
        self.order = SampleOrder(index.members, sizes, length, sizes / sizes.sum(), *key)

    def update(self, topic_weights: Tensor, remaining_tokens: int, interval_tokens: int) -> None:
        """Draw by new weights from the next sample on.

        Args:
            topic_weights: (num_topics,)
            remaining_tokens: still to come in the run.
            interval_tokens: of these, to come before the next update.
        """
        weights = self.strata.weights(topic_weights.numpy())
        # By the corpus's mean length: a stratum of short samples comes up more often than that, which the next updates
        # make up for, unless it is used up before.
        draws = int(remaining_tokens / self.mean_predicted)
        if not self._is_within_cap(self._shares(weights, draws), interval_tokens):
            draws = self._fewest_draws(weights, draws, interval_tokens)
        self.order.draws.set_shares(self._shares(weights, draws))

    def _shares(self, weights: np.ndarray, remaining_draws: int) -> np.ndarray:
        """(num_strata,) shares under which nothing passes the cap within so many draws."""
        return sampling_shares(
            weights,
            self.strata.num_samples,
            floor=self.config.sampling_floor,
            max_repeats=self.config.max_repeats,
            drawn=self.order.draws.counts,
            remaining=remaining_draws,
        )

    def _is_within_cap(self, shares: np.ndarray, tokens: int) -> bool:
        """Whether a stretch under `shares` repeats no stratum noticeably more often than allowed."""
        if not (self.config.max_repeats and tokens):
            return True
        num_draws = tokens / float((shares * self.stratum_predicted).sum())
        most = self.config.max_repeats * self.strata.num_samples
        return bool((self.order.draws.counts + shares * num_draws <= (1 + NOTICEABLE) * most + 1).all())

    def _fewest_draws(self, weights: np.ndarray, too_few: int, tokens: int) -> int:
        """How many draws must be reckoned with, so that the stretch of tokens stays within the cap."""
        enough = int(tokens / self.stratum_predicted.min()) + 1
        while enough - too_few > max(too_few // 100, 1):
            middle = (too_few + enough) // 2
            if self._is_within_cap(self._shares(weights, middle), tokens):
                enough = middle
            else:
                too_few = middle
        return enough

    def loss_factors(self, topic_weights: Tensor) -> Tensor:
        """(num_strata,) float64 on the loss; all 1 where sampling alone acts."""
        sizes, shares = self.strata.num_samples, self.order.draws.shares
        if not self.corrects_loss:
            return torch.ones(len(sizes), dtype=torch.float64)
        return torch.from_numpy(importance(self.strata.weights(topic_weights.numpy()), sizes, shares))

    def propensities(self) -> Tensor:
        """(num_strata,) float64: natural share over sampling share, under which topic losses are tracked unbiased."""
        sizes = self.strata.num_samples
        return torch.from_numpy(importance(np.ones(len(sizes)), sizes, self.order.draws.shares))

    def drawn_weights(self) -> Tensor:
        """(num_topics,) float64: rate at which each topic's samples are drawn over the natural one."""
        sizes = self.strata.num_samples
        return torch.from_numpy(self._by_topic(self.order.draws.shares * sizes.sum() / sizes))

    def repeats(self) -> np.ndarray:
        """(num_topics,) how often each topic's samples have been drawn on average so far."""
        return self._by_topic(self.order.draws.counts / self.strata.num_samples)

    def _by_topic(self, values: np.ndarray) -> np.ndarray:
        """(num_topics,) mean over each topic's samples of what holds for their stratum, (num_strata,)."""
        strata = self.strata
        carried = strata.pair_prob * strata.num_samples[strata.pair_stratum]
        total = np.bincount(strata.pair_topic, carried * values[strata.pair_stratum], self.num_topics)
        return total / np.maximum(np.bincount(strata.pair_topic, carried, self.num_topics), 1e-300)
