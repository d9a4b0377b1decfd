"""Adaptive sampling in a run: the strata of its training samples, and what the shares of the draws imply."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from toremi_cli.reweight import PolicyConfig, build_strata, importance, sampling_shares
from toremi_cli.train.order import DrawnOrder
from toremi_cli.train.tokens import TopicPairs

NOTICEABLE = 0.01
"""By what fraction `max_repeats` may be passed: lengths are known in the mean only."""


class AdaptiveSampling:
    """Draws training samples by weight times size; every rank holds the same."""

    def __init__(
        self,
        samples: np.ndarray,
        pairs: TopicPairs,
        num_predicted: np.ndarray,
        config: PolicyConfig,
        *,
        corrects_loss: bool,
        key: tuple[object, ...],
        soft: bool = False,
    ) -> None:
        """Partition the training samples.

        Args:
            samples: (n,) indices of the training samples.
            pairs: topics of all samples of the cache.
            num_predicted: (num_samples,) predicted tokens of all of them.
            config: the policy's, for floor and cap.
            corrects_loss: `apply=both`: the loss makes up for what floor and cap keep the shares from following.
            key: what the draws are derived from.
            soft: samples are mixtures of topics, such as rows packed from several documents.
        """
        indptr, topic, prob = pairs_of(samples, pairs)
        self.config, self.corrects_loss = config, corrects_loss
        self.strata = build_strata(indptr, topic, prob, soft=soft)
        self.num_topics = len(pairs.names)
        self.mean_predicted = float(num_predicted[samples].mean())
        self.stratum_of = np.zeros(len(num_predicted), np.int64)
        """(num_samples,) stratum of every sample of the cache; only training samples are looked up."""
        self.stratum_of[samples] = self.strata.stratum_of
        sizes = self.strata.num_samples
        self.stratum_predicted = np.bincount(self.strata.stratum_of, num_predicted[samples]) / sizes
        """(num_strata,) mean predicted tokens of each stratum's samples."""
        self.order = DrawnOrder(samples, self.strata.stratum_of, num_predicted, sizes / sizes.sum(), *key)

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


def topic_sizes(samples: np.ndarray, pairs: TopicPairs, num_predicted: np.ndarray, loss_average: str) -> list[float]:
    """Size of each topic in what the loss averages over: predicted tokens, or training samples.

    Shares by any other count would not be those of the objective: by tokens, under a mean over samples, a topic would
    get as many times its share as its samples are shorter than others. A sample of several topics counts in part for
    each.
    """
    indptr, topic, prob = pairs_of(samples, pairs)
    sample = np.repeat(np.arange(len(samples)), np.diff(indptr))
    total = np.bincount(sample, prob, len(samples))
    size = num_predicted[samples][sample] if loss_average == "token" else 1.0
    sizes: Any = np.bincount(topic, prob / total[sample] * size, len(pairs.names))
    return sizes.tolist()


def pairs_of(samples: np.ndarray, pairs: TopicPairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CSR rows (indptr, topic, prob) of some samples."""
    begin = pairs.indptr[samples]
    count = pairs.indptr[samples + 1] - begin
    indptr = np.concatenate([[0], np.cumsum(count)])
    index = np.repeat(begin - indptr[:-1], count) + np.arange(indptr[-1])
    return indptr, pairs.topic[index].astype(np.int64), pairs.prob[index].astype(np.float64)
