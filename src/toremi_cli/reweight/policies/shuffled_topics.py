"""Control: another policy's weights on the wrong topics.

The inner policy sees the true statistics, but each of its weights acts on another topic: the same weights, equally
uneven, without their meaning. If this does as well as the policy itself, the topics bought nothing.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.base import Policy
from toremi_cli.reweight.policies.data import generator
from toremi_cli.reweight.stats import IntervalStats


class ShuffledTopics(Policy):
    """The weights of `inner`, each handed to another topic in one cycle: with two or more topics none keeps its own."""

    name: ClassVar[str] = "shuffled-topics"
    num_stages: ClassVar[int] = 2
    state: ClassVar[tuple[str, ...]] = ("inner",)

    def __init__(self, inner: Policy) -> None:
        """`inner` is a policy over the same topics."""
        self.inner = inner
        super().__init__(inner.config, inner.topics, inner.data)
        order = torch.randperm(len(inner.topics), generator=generator(self.config.seed, self.name))
        self.source = torch.empty_like(order)
        """(num_topics,) int64: the topic whose weight each topic gets."""
        self.source[order] = order.roll(1)
        self.weights = inner.weights[self.source]

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        return self.inner.update(stats, stage)[self.source]

    @property
    def needed(self) -> frozenset[str]:
        """As the inner policy."""
        return self.inner.needed

    @property
    def apply(self) -> str:
        """As the inner policy."""
        return self.inner.apply

    def stage_of(self, stage: int) -> int:
        """As the inner policy."""
        return self.inner.stage_of(stage)
