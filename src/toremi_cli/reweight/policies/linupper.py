"""LinUpper: sample weights by loss within the batch (Sow et al., "Dynamic Loss-Based Sample Reweighting for Improved
Large Language Model Pretraining", arXiv 2502.06733; github.com/sowmaster/Sample-Level-Loss-Reweighting-ICLR-2025).

Over the losses l of a batch:

    h = (2l - (max + min)) / max(max - min, 1e-6)          between -1 and 1
    f = min(h + 1, 1)                                      linear below the middle, capped above it
    w = softmax(f / r),  r = 0.4                           times the number of samples: mean 1

Low-loss (redundant) samples lose weight; the rest keep theirs. The first steps are uniform (the code's `burnout_steps`:
1,000). Where they differ: the code's default for r (`kl_reg`) is 1.0 and its `h_func` takes fixed bounds .75 and 1.8
where none are given; the paper's runs use r = 0.4 and the batch's own bounds, as here.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.uniform import Uniform


class LinUpper(Uniform):
    """Down-weighs samples of low loss; topics keep weight 1."""

    name: ClassVar[str] = "linupper"
    static: ClassVar[bool] = False
    sample_level: ClassVar[bool] = True

    def sample_factors(self, sample_loss: Tensor, step: int) -> Tensor:
        """(S,) weights with mean 1 over the samples given; nothing here waits for the device."""
        if step < self.config.burn_in_steps or sample_loss.numel() == 0:
            return torch.ones_like(sample_loss)
        return linupper(sample_loss, self.config.softmax_scale)


def linupper(loss: Tensor, scale: float = 0.4) -> Tensor:
    """(S,) weights with mean 1 for losses (S,)."""
    low, high = loss.min(), loss.max()
    h = (2 * loss - (high + low)) / (high - low).clamp_min(1e-6)
    return torch.softmax((h + 1).clamp_max(1) / scale, dim=0) * loss.numel()
