"""Cross-entropy of each token, leaner than torch's own: one buffer of the size of the logits serves both passes."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


class _TokenCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = torch.log_softmax(logits, dim=-1)
        ctx.save_for_backward(log_probs, targets)
        losses = -log_probs.gather(1, targets.unsqueeze(1)).squeeze(1)
        other_losses = -log_probs.gather(1, others)
        ctx.mark_non_differentiable(other_losses)
        return losses, other_losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        log_probs, targets = ctx.saved_tensors
        # The gradient is softmax - onehot, times that of the loss: computed where the log-probabilities stood.
        gradient = log_probs.detach().exp_()
        rows = torch.arange(len(targets), device=targets.device)
        gradient[rows, targets] -= 1
        return gradient.mul_(gradients[0].unsqueeze(1)), None, None


def token_cross_entropy(logits: Tensor, targets: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of the targets, (N,), and of other tokens under the same predictions, (N, k), in nats.

    Args:
        logits: (N, vocabulary) float32.
        targets: (N,) int64.
        others: (N, k) int64. Their losses have no gradient.

    The backward pass may run once: it overwrites what the forward pass kept.
    """
    return cast("tuple[Tensor, Tensor]", _TokenCrossEntropy.apply(logits, targets, others))
