"""What policies share that keep a distribution over topics rather than weights."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.base import Policy
from toremi_cli.reweight.policies.data import weights_of_shares
from toremi_cli.reweight.stats import IntervalStats


class SharePolicy(Policy):
    """A policy with a distribution `shares` over topics, (num_topics,) float64 with sum 1.

    Its weights are the shares over the natural ones, so that weight times size gives the shares: as a sampling policy
    it draws by them, as a loss policy it optimises sum_l share_l * L_l. It starts at `_first_shares`.
    """

    acts_on: ClassVar[str] = "sampling"
    state: ClassVar[tuple[str, ...]] = ("shares",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.shares = self._first_shares()
        self.weights = weights_of_shares(self.shares, self.natural)

    def _first_shares(self) -> Tensor:
        """The distribution of the first interval, (num_topics,): the natural one."""
        return self.natural.clone()

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        self.shares = self._new_shares(losses, stats)
        return weights_of_shares(self.shares, self.natural)

    @abstractmethod
    def _new_shares(self, losses: Tensor, stats: IntervalStats) -> Tensor:
        """The next distribution, (num_topics,)."""

    def _shares_drawn(self, stats: IntervalStats) -> Tensor:
        """(num_topics,) shares that the interval was drawn by; not its own where floor or cap held one back."""
        if stats.drawn_weights is None:
            return self.shares
        drawn = stats.drawn_weights.double() * self.natural
        return drawn / drawn.sum()


def exponentiated(shares: Tensor, score: Tensor, smoothing: float) -> Tensor:
    """(1 - c) softmax(log p + score) + c/K, with `smoothing` c; a score of NaN leaves p in the softmax as it was."""
    known = torch.isfinite(score)
    logs = shares.clamp_min(torch.finfo(torch.float64).tiny).log()
    kept = (logs[known] + score[known]).logsumexp(0) - logs[known].logsumexp(0)
    moved = torch.softmax(logs + torch.where(known, score, kept), dim=0)
    return (1 - smoothing) * moved + smoothing / len(shares)


def raised_to(shares: Tensor, lowest: float) -> Tensor:
    """The distribution with every share at least about `lowest`; half the uniform share where that is less."""
    raised = shares.clamp_min(min(lowest, 0.5 / len(shares)))
    return raised / raised.sum()
