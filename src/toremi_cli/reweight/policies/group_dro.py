"""Group DRO as DoReMi uses it (Xie et al., "DoReMi: Optimizing Data Mixtures Speeds Up Language Model Pretraining",
arXiv 2305.10429, algorithm 1; github.com/sangmichaelxie/doremi, doremi/trainer.py). Without a reference model it is
plain group DRO (Sagawa et al., arXiv 1911.08731).

    excess_l = max(L_l - L_ref_l, 0)                  L_ref = 0 without a reference
    p <- (1 - c) softmax(log p + eta * excess) + c/K  eta = 1, c = 1e-3
    result: the mean of p over the run (`toremi export --weights mean`)

A topic not seen keeps its last excess. Where they differ: the paper clips the excess per token, here, as only topic
means travel, per topic; the paper says c = 1e-3 and starts from uniform p, the code's default is c = 1e-4 and it starts
from the domain weights given, as here (natural shares). The paper updates every step, we every interval.

A topic never seen keeps its share. The code gives it the excess log V of a vocabulary of V, which a batch that holds
all of 22 domains never meets; of many topics an interval misses the rare ones, and each would take most of the shares
at once. An excess of 0 would do the opposite, and starve it. The result is the paper's, the mean of p over all updates;
the code counts the starting shares as one more.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.shares import SharePolicy, exponentiated
from toremi_cli.reweight.stats import IntervalStats

SMOOTHING = 1e-3


class GroupDro(SharePolicy):
    """Topics with the largest excess loss gain share."""

    name: ClassVar[str] = "group-dro"
    state: ClassVar[tuple[str, ...]] = ("shares", "excess")
    acts_on: ClassVar[str] = "loss"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        reference = self.data.reference_loss
        self.reference = torch.zeros_like(self.weights)
        if reference is not None:
            self.reference = torch.tensor(list(reference), dtype=torch.float64)
        self.excess = torch.full_like(self.weights, torch.nan)
        """(num_topics,) of the interval that last saw each topic; NaN for a topic never seen."""

    def _new_shares(self, losses: Tensor, stats: IntervalStats) -> Tensor:
        smoothing = SMOOTHING if self.config.smoothing is None else self.config.smoothing
        self.excess = torch.where(stats.seen, (losses - self.reference).clamp_min(0), self.excess)
        return exponentiated(self.shares, self.config.eta * self.excess, smoothing)
