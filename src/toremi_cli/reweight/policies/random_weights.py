"""Control: weights that know nothing. What they change, a policy's weights may change by being uneven alone."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.base import Policy
from toremi_cli.reweight.policies.data import generator
from toremi_cli.reweight.stats import IntervalStats


class RandomWeights(Policy):
    """Every interval draws each weight anew, log-uniformly between `w_min` and `w_max`."""

    name: ClassVar[str] = "random-weights"
    state: ClassVar[tuple[str, ...]] = ("num_updates",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.num_updates = 0

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        stream = generator(self.config.seed, self.name, self.num_updates)
        self.num_updates += 1
        low, high = math.log(max(self.config.w_min, 1e-3)), math.log(self.config.w_max)
        drawn = torch.rand(len(self.weights), generator=stream, dtype=torch.float64)
        # exp(log(bound)) may miss the bound by a rounding error
        return (low + (high - low) * drawn).exp().clamp(self.config.w_min, self.config.w_max)
