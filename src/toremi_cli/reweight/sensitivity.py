"""Gradient sensitivity of samples, from what a training step has at hand anyway. Pure tensor functions.

How much a sample still moves the model is the norm of its gradient. Two estimates that cost next to nothing:

- EL2N (Paul et al., arXiv 2107.07075): the norm of the gradient with respect to the logits, |p - onehot(y)|.
- The final normalisation layer's parameters' gradient for each sample, which tracks the norm of the whole gradient well
  (arXiv 2411.00999, "Normalization Layer Per-Example Gradients are Sufficient to Predict Gradient Noise Scale").
"""

from __future__ import annotations

import torch
from torch import Tensor


def el2n_squared(logits: Tensor, token_loss: Tensor, logsumexp: Tensor | None = None) -> Tensor:
    """(N,) squared EL2N of each token: |softmax(z) - onehot(y)|^2, between 0 and 2.

    It is sum p^2 - 2 p_y + 1, and with p = exp(z - lse(z)): exp(lse(2z) - 2 lse(z)) - 2 exp(-loss) + 1.

    Args:
        logits: (N, vocabulary).
        token_loss: (N,) cross-entropy of each token in nats.
        logsumexp: (N,) lse(z), where it is known already.
    """
    logits = logits.detach()
    lse = torch.logsumexp(logits, dim=-1) if logsumexp is None else logsumexp.detach()
    purity = torch.exp(torch.logsumexp(2 * logits, dim=-1) - 2 * lse)
    return (purity - 2 * torch.exp(-token_loss.detach()) + 1).clamp_min(0)


def segment_mean(values: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """(S,) mean of token values (N,) over each segment; 0 for a segment without tokens."""
    total = values.new_zeros(num_segments).index_add(0, segment, values)
    count = values.new_zeros(num_segments).index_add(0, segment, torch.ones_like(values))
    return total / count.clamp_min(1)


def norm_layer_gradient_norm(
    output_grad: Tensor, normalized: Tensor, segment: Tensor, num_segments: int, *, has_bias: bool = True
) -> Tensor:
    """(S,) norm of the gradient of the final normalisation layer's weight and bias, for each segment alone.

    The layer gives gamma * xhat + beta, so a segment's gradients are sum g * xhat and sum g over its tokens, with g the
    gradient at the layer's output. Exact. g carries the factors of the step's loss (weights, averages): divide it by
    the token's factor first, or the norm tells of the weight as well.

    Args:
        output_grad: (N, width) g.
        normalized: (N, width) xhat, the layer's input after normalisation, before gamma and beta.
        segment: (N,) int64 segment of each token.
        num_segments: S.
        has_bias: False for RMSNorm.
    """
    grad, normalized = output_grad.detach().float(), normalized.detach().float()
    weight_grad = grad.new_zeros(num_segments, grad.shape[1]).index_add(0, segment, grad * normalized)
    squared = weight_grad.square().sum(dim=1)
    if has_bias:
        bias_grad = grad.new_zeros(num_segments, grad.shape[1]).index_add(0, segment, grad)
        squared = squared + bias_grad.square().sum(dim=1)
    return squared.sqrt()
