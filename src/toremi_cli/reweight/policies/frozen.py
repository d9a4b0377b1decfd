"""Control: the weights that another run ended up with, step by step, whatever this run sees.

Tells apart what a policy's weights do from what its reacting to this run does; also how to train a large model with
the weights that a small one found.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.base import Policy
from toremi_cli.reweight.stats import IntervalStats


class Frozen(Policy):
    """After the interval that ends at a step: the course's weights of the last step up to it; before its first, 1."""

    name: ClassVar[str] = "frozen"
    needs: ClassVar[frozenset[str]] = frozenset({"course"})

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.weights = self._at(0)

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        return self._at(stats.step)

    def _at(self, step: int) -> Tensor:
        course = self.data.course
        assert course is not None  # `needs`
        index = int(torch.searchsorted(course.steps, step, right=True)) - 1
        return course.weights[index].clone() if index >= 0 else torch.ones_like(self.weights)
