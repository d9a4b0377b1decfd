"""ToReMi's two policies (arXiv 2504.00695, §2; code: github.com/zxx000728/ToReMi, train/trainer.py).

Per interval, over the topics seen in it: L_l the topic's mean loss, Lbar their unweighted mean, w the topic's weight.

    gap = (L_l - Lbar) / Lbar                   rule `multiplicative`, the code's
    stage 1   gap > 0:   w <- min(w * (1 + a*gap), w_max)           else unchanged
    stage 2   gap > 0:   w <- max(w * (1 - a*gap), w_min)
              gap <= 0:  w <- min(w * (1 + a*|gap|), w_max)

    d = L_l - Lbar                              rule `additive`, the paper's
    stage 1   d > 0:     w <- min(w + a*d, w_max)                   else w <- 1
    stage 2   d > 0:     w <- max(w - a*d, w_min)
              d <= 0:    w <- min(w + a*|d|, w_max)

`toremi-1` stays in stage 1; `toremi-2` enters stage 2 at the run's stage switch. A topic not seen in the interval
keeps its weight and doesn't enter Lbar.

Where the sources differ: the paper prints stage 1 additively, with the weight reset to 1 as soon as the loss isn't
above the mean, and names the upper bound beta; the code multiplies and leaves such a weight as it was, with a=1, 0.1
and 5.0 as constants. The code counts an unseen topic as loss 0, which would double its weight in stage 2; here it is
left alone. Where every loss is 0, nothing changes, as in the code.

The paper enters stage 2 when the validation loss falls by less than 1% (`plateau`); the code has that line commented
out, and enters it at the first evaluation after step 7,000: `stage_switch=step:7001`. The code divides a sample's
summed loss by the padded length of its row, so that a short sample looks easy and counts less the more it is padded;
here it is divided by the sample's own tokens, so that neither packing nor padding changes a topic's loss. A sample
without a topic has weight 0 in the code and is not trained on; here it has weight 1.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.base import Policy, mean
from toremi_cli.reweight.stats import IntervalStats


class ToremiOne(Policy):
    """Emphasize only: hard topics gain weight, none loses it."""

    name: ClassVar[str] = "toremi-1"

    def _updated(self, losses: Tensor, stats: IntervalStats, stage: int) -> Tensor:
        average = mean(losses[stats.seen])
        difference = losses - average  # NaN where unseen
        updated = (
            self._additive(difference, stage)
            if self.config.rule == "additive"
            else self._multiplicative(difference / average if average else difference, stage)
        )
        return torch.where(stats.seen, updated, self.weights)

    def _multiplicative(self, gap: Tensor, stage: int) -> Tensor:
        config, weights = self.config, self.weights
        if stage == 1:
            raised = (weights * (1 + config.alpha * gap)).clamp_max(config.w_max)
            return torch.where(gap > 0, raised, weights)
        lowered = (weights * (1 - config.alpha * gap)).clamp_min(config.w_min)
        raised = (weights * (1 + config.alpha * gap.abs())).clamp_max(config.w_max)
        return torch.where(gap > 0, lowered, raised)

    def _additive(self, difference: Tensor, stage: int) -> Tensor:
        config, weights = self.config, self.weights
        if stage == 1:
            raised = (weights + config.alpha * difference).clamp_max(config.w_max)
            return torch.where(difference > 0, raised, 1.0)
        lowered = (weights - config.alpha * difference).clamp_min(config.w_min)
        raised = (weights + config.alpha * difference.abs()).clamp_max(config.w_max)
        return torch.where(difference > 0, lowered, raised)


class ToremiTwo(ToremiOne):
    """Emphasize, then in stage 2 also de-emphasize: hard topics lose weight, easy ones gain it."""

    name: ClassVar[str] = "toremi-2"
    num_stages: ClassVar[int] = 2
