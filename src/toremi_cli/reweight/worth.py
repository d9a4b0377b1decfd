"""What a token of a topic is worth: what is left to learn of it, times what its context tells.

    L = mean -log p_t(y_t)        the loss, in nats a token
    S = mean -log p_t(y_u)        the loss of the same predictions p_t on other tokens y_u of the same sample
    worth = L (S - L)             in nats squared a token

It is 0 where order tells nothing (noise: S = L) and where all is known by heart (L = 0), and small for text of few
different words, whose S is low. Before training, entropies under n-grams stand for L and S. The gain by context, S - L,
is taken over all tokens, and over those alone that begin a word: shuffled words keep the order within them. Ours;
reasons and measurements in docs/policy.md.
"""

from __future__ import annotations

import torch
from torch import Tensor


def other_tokens(segment: Tensor, row_length: int, begins_word: Tensor) -> Tensor:
    """(N, 2) int64: for each token another one of its segment.

    First of all of them; then of those that begin a word if it does, and of the others if it doesn't. Itself if it is
    alone: a random cycle through each. The order depends on the positions in the row alone, so that it is the same on
    any number of ranks.

    Args:
        segment: (N,) int64 segment of each token, rows end to end; a segment lies within a row.
        row_length: tokens a row.
        begins_word: (N,) bool.
    """
    return torch.stack([_cycle(s, row_length) for s in (segment, 2 * segment + begins_word)], dim=1)


def _cycle(segment: Tensor, row_length: int) -> Tensor:
    count = len(segment)
    generator = torch.Generator().manual_seed(row_length)
    keys = torch.randperm(row_length, generator=generator).to(segment.device)
    shuffled = keys.repeat(-(-count // row_length))[:count].argsort(stable=True)
    shuffled = shuffled[segment[shuffled].argsort(stable=True)]  # by segment, within it in random order
    sorted_segment, index = segment[shuffled], torch.arange(count, device=segment.device)
    begins = torch.ones_like(sorted_segment, dtype=torch.bool)
    begins[1:] = sorted_segment[1:] != sorted_segment[:-1]
    first = torch.where(begins, index, 0).cummax(0).values
    following = (index + 1).clamp_max(count - 1)
    following = torch.where(begins[following] | (index == count - 1), first, following)
    return torch.empty_like(shuffled).scatter(0, shuffled, shuffled[following])


def context_sums(losses: Tensor, shuffled: Tensor, segment: Tensor, num_segments: int, begins_word: Tensor) -> Tensor:
    """(3, num_segments) sums by segment: S; S - L of the tokens that begin a word; how many those are.

    Args:
        losses: (N,) L of each token, nats.
        shuffled: (N, 2) S of each token, by the partners that `other_tokens` gives.
        segment: (N,) int64.
        num_segments: segments are below it.
        begins_word: (N,) bool.
    """
    begins, losses = begins_word.to(shuffled.dtype), losses.detach()
    values = torch.stack((shuffled[:, 0], (shuffled[:, 1] - losses) * begins, begins))
    return values.new_zeros(3, num_segments).index_add(1, segment, values)


def worth(loss: Tensor, gain: Tensor) -> Tensor:
    """L (S - L), at least 0, of the same shape as loss L and gain S - L; in nats squared a token."""
    return loss * gain.clamp_min(0)
