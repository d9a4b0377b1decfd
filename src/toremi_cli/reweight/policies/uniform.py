"""Plain pre-training: every topic weighs 1, always."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from toremi_cli.reweight.policies.base import Policy
from toremi_cli.reweight.stats import IntervalStats


class Uniform(Policy):
    """The baseline: weights stay at 1."""

    name: ClassVar[str] = "uniform"
    static: ClassVar[bool] = True

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        return self.weights
