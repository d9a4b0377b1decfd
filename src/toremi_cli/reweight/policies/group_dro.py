"""Group DRO as DoReMi uses it (Xie et al., "DoReMi: Optimizing Data Mixtures Speeds Up Language Model Pretraining",
arXiv 2305.10429, algorithm 1; github.com/sangmichaelxie/doremi, doremi/trainer.py). Without a reference model it is
plain group DRO (Sagawa et al., arXiv 1911.08731).

    excess_l = max(L_l - L_ref_l, 0)                  L_ref = 0 without a reference
    p <- (1 - c) softmax(log p + eta * excess) + c/K  eta = 1, c = 1e-3
    exported: the mean of p over all updates

A topic not seen keeps its last excess. Where they differ: the paper clips the excess per token, here, as only topic
means travel, per topic; the paper says c = 1e-3 and starts from uniform p, the code's default is c = 1e-4 and it starts
from the domain weights given, as here (natural shares). The paper updates every step, we every interval.
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
    acts_on: ClassVar[str] = "loss"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        reference = self.data.reference_loss
        self.reference = torch.zeros_like(self.weights)
        if reference is not None:
            self.reference = torch.tensor(list(reference), dtype=torch.float64)
        self.excess = torch.zeros_like(self.weights)
        self.average_shares = self.shares.clone()
        """(num_topics,) time average of the shares: DoReMi's result, to train a large model with."""
        self.num_updates = 0

    def _new_shares(self, losses: Tensor, stats: IntervalStats) -> Tensor:
        smoothing = SMOOTHING if self.config.smoothing == -1 else self.config.smoothing
        self.excess = torch.where(stats.seen, (losses - self.reference).clamp_min(0), self.excess)
        shares = exponentiated(self.shares, self.excess, self.config.eta, smoothing)
        self.num_updates += 1
        self.average_shares = self.average_shares + (shares - self.average_shares) / self.num_updates
        return shares

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state."""
        return {
            **super().state_dict(),
            "excess": self.excess.tolist(),
            "average_shares": self.average_shares.tolist(),
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        super().load_state_dict(state)
        self.excess = torch.tensor(state["excess"], dtype=torch.float64)
        self.average_shares = torch.tensor(state["average_shares"], dtype=torch.float64)
        self.num_updates = state["num_updates"]
