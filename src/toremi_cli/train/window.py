"""The losses of the last steps, kept on the device until they are logged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from toremi_cli.errors import TrainingError


@dataclass(frozen=True)
class WindowSummary:
    """Means over the steps of a window."""

    train_loss: float
    """Nats a token, every token counting the same."""
    objective: float
    """What the optimizer saw: weighted, by sample or by token."""
    grad_norm: float
    """Before clipping."""


_NATS, _OBJECTIVE, _GRAD_NORM = range(3)


class LossWindow:
    """One row a step: summed token losses and objective of this rank, norm of the gradient of all."""

    def __init__(self, num_steps: int, device: torch.device) -> None:
        self.buffer = torch.zeros(num_steps, 3, dtype=torch.float64, device=device)
        self.count = 0

    def add_losses(self, token_losses: Tensor, objective: Tensor) -> None:
        """Add a micro-batch to the step under way. Nothing here waits for the device."""
        self.buffer[self.count, _NATS] += token_losses.detach().to(self.buffer.device).sum(dtype=torch.float64)
        self.buffer[self.count, _OBJECTIVE] += objective.detach().to(self.buffer.device)

    def end_step(self, grad_norm: Tensor) -> None:
        """Close the step."""
        if not dist.is_initialized() or dist.get_rank() == 0:  # the same on all ranks, and rows are summed over them
            self.buffer[self.count, _GRAD_NORM] = grad_norm.detach().to(self.buffer.device)
        self.count += 1

    def summarize(self, step: int, tokens_per_step: int) -> WindowSummary:
        """Means over the window that ends at `step`, over all ranks. Waits for the device.

        Raises:
            TrainingError: a loss or a gradient is not finite; names the first such step.
        """
        rows = self.buffer[: self.count].clone()
        if dist.is_initialized():
            dist.all_reduce(rows)
        values = rows.cpu()
        bad = (~torch.isfinite(values)).any(dim=1).nonzero().flatten()
        if len(bad):
            row = int(bad[0])
            what = "loss" if not math.isfinite(float(values[row, _NATS])) else "gradient norm"
            value = float(values[row, _NATS] / tokens_per_step if what == "loss" else values[row, _GRAD_NORM])
            raise TrainingError(
                f"step {step - self.count + row + 1}: the {what} is {value}; the run stops here and its last "
                "checkpoint stays. Try a lower --learning-rate or more --warmup-steps"
            )
        mean = values.mean(dim=0)
        return WindowSummary(float(mean[_NATS]) / tokens_per_step, float(mean[_OBJECTIVE]), float(mean[_GRAD_NORM]))

    def reset(self) -> None:
        """Begin a new window."""
        self.buffer.zero_()
        self.count = 0
