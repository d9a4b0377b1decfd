"""Gradient sensitivity of samples: how much they still move the model, for next to nothing.

The whole gradient of each sample alone would cost a backward pass each. What backward has at hand anyway is the
gradient at the last hidden state of each token; its norm, averaged over a sample's tokens, stands for it.
"""

from __future__ import annotations

from torch import Tensor


def segment_mean(values: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """(S,) mean of token values (N,) over each segment; 0 for a segment without tokens."""
    total = values.new_zeros(num_segments).index_add(0, segment, values)
    count = values.new_zeros(num_segments).index_add(0, segment, values.new_ones(len(values)))
    return total / count.clamp_min(1)
