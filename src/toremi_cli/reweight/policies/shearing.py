"""Dynamic batch loading of Sheared LLaMA (Xia et al., arXiv 2310.06694, algorithm 1;
github.com/princeton-nlp/LLM-Shearing, callbacks/dynamic_loading_callback.py).

    p <- (1 - c) softmax(log p + eta * (L_val - L_target)) + c/K     eta = 1, c = 1e-4

L_val: held-out loss of each topic at an evaluation, L_target: the loss aimed at. Where no held-out loss is given, the
interval's training losses stand in for it: in a first epoch those samples are new to the model too.
Where they differ: the paper's algorithm clips the difference at 0 and has no smoothing; the code, followed here, does
not clip and smooths with 1e-4, "following DoReMi", whose paper has 1e-3.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.shares import SharePolicy, exponentiated
from toremi_cli.reweight.stats import IntervalStats

SMOOTHING = 1e-4


class Shearing(SharePolicy):
    """Topics that are further above their target than others gain share."""

    name: ClassVar[str] = "shearing"
    needs: ClassVar[frozenset[str]] = frozenset({"reference_loss"})

    def _new_shares(self, losses: Tensor, stats: IntervalStats) -> Tensor:
        smoothing = SMOOTHING if self.config.smoothing is None else self.config.smoothing
        target = torch.tensor(list(self.data.reference_loss or ()), dtype=torch.float64)
        measured = losses if stats.holdout_loss is None else stats.holdout_loss.double()
        distance = torch.where(torch.isfinite(measured), measured - target, 0.0)
        return exponentiated(self.shares, self.config.eta * distance, smoothing)
