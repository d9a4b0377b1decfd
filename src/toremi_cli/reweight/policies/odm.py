"""Online data mixing: topics as arms of a bandit, their loss as the reward (Albalak et al., "Efficient Online Data
Mixing For Language Model Pre-Training", arXiv 2312.02406, algorithm 1; github.com/alon-albalak/online-data-mixing).

Exp3 with a moving average of the importance-weighted reward, over K topics, at update t = 1, 2, …:

    R_l <- 0.9 R_l + 0.1 L_l / p_l                                for the topics seen
    E_t = min(1/K, sqrt(ln K / (K t)))                            exploration
    p_l = (1 - K E_t) exp(E_{t-1} R_l) / sum_j exp(E_{t-1} R_j) + E_t

p starts uniform, and p_l in the reward is the distribution that the interval was drawn by: also where the floor or the
cap of adaptive sampling kept the draws from following p.

Where they differ: the repository's updater `exp3` adds up reward/10 over p without smoothing; the scripts of its 1B
runs use another, `smoothed_mean`, with the given shares for the first 2,000 steps and in some runs a smoothing of 0.5.
There an update is a step, here an interval, so the exploration rate falls more slowly over a run. As E_t = 1/K until
t > K ln K, shares stay equal for that long.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.shares import SharePolicy
from toremi_cli.reweight.stats import IntervalStats

MOVING_AVERAGE = 0.9


class Odm(SharePolicy):
    """Topics of high loss are drawn more."""

    name: ClassVar[str] = "odm"
    state: ClassVar[tuple[str, ...]] = ("shares", "reward", "num_updates")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.reward = torch.zeros_like(self.weights)
        self.num_updates = 0

    def _first_shares(self) -> Tensor:
        return torch.full_like(self.natural, 1 / max(len(self.natural), 1))

    def _new_shares(self, losses: Tensor, stats: IntervalStats) -> Tensor:
        num_topics = len(self.shares)
        weighted = losses / self._shares_drawn(stats).clamp_min(torch.finfo(torch.float64).tiny)
        moved = MOVING_AVERAGE * self.reward + (1 - MOVING_AVERAGE) * weighted
        self.reward = torch.where(stats.seen, moved, self.reward)
        before, now = exploration(num_topics, self.num_updates), exploration(num_topics, self.num_updates + 1)
        self.num_updates += 1
        return (1 - num_topics * now) * torch.softmax(before * self.reward, dim=0) + now


def exploration(num_topics: int, update: int) -> float:
    """E_t: 1/K at first, then falling as 1/sqrt(t)."""
    if update == 0:
        return 1 / num_topics
    return min(1 / num_topics, math.sqrt(math.log(num_topics) / (num_topics * update)))
