"""One rank decides: what the first rank's CPU worked out is what all train with.

Another kind of CPU may add up in another order. A last bit that differs would grow from update to update, and in the
shares of the draws it would let the ranks read different rows.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from toremi_cli.errors import TrainingError
from toremi_cli.train.exchange import from_first_rank
from toremi_cli.train.run import Training

ROUNDING = 1e-6
"""By what fraction the ranks' weights may differ; more is no rounding."""


def agree_on_weights(run: Training, weights: Tensor) -> Tensor:
    """Let every rank's policy go on from the first rank's state; return that one's weights: (num_topics,).

    Raises:
        TrainingError: the ranks' weights differ by more than rounding: their settings or their data do.
    """
    if not dist.is_initialized():
        return weights
    state = from_first_rank(run.policy.state_dict(), run.device)
    own = weights
    if not run.is_main:
        run.policy.load_state_dict(state)
        weights = run.policy.weights.clone()
    differs = torch.tensor([not torch.allclose(own, weights, rtol=ROUNDING, atol=0)], dtype=torch.int32)
    differs = differs.to(run.device)
    dist.all_reduce(differs, dist.ReduceOp.MAX)
    if int(differs):
        raise TrainingError(
            f"step {run.step}: the ranks' topic weights differ: they run with other settings, versions or data; make "
            "them the same and go on with --resume"
        )
    return weights


def agree_on_shares(run: Training) -> None:
    """Let every rank draw by the first rank's shares, where samples are drawn by shares."""
    if run.sampling is None or not dist.is_initialized():
        return
    draws = run.sampling.order.draws
    state = from_first_rank(draws.state_dict(), run.device)
    if not run.is_main:
        draws.load_state_dict(state)
