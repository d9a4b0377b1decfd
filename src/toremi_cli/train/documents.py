"""Document masking: tokens of a packed row see those of their own sample only, at positions counted from its first."""

from __future__ import annotations

import torch
from torch import Tensor


def document_inputs(segment: Tensor) -> dict[str, Tensor]:
    """What transformers' models take beside the tokens; nothing here waits for the device.

    The token that is predicted decides which sample a position belongs to: the end of the sample before, from which a
    sample's first token is predicted, is its first input.

    Args:
        segment: (b, T) int64 sample of each predicted token.

    Returns:
        attention_mask: (b, 1, T, T) bool, True where a position (row) may see another (column).
        position_ids: (b, T) int64, counted from the first token that the row has of the sample.
    """
    length = segment.shape[1]
    positions = torch.arange(length, device=segment.device)
    begins = torch.ones_like(segment, dtype=torch.bool)
    begins[:, 1:] = segment[:, 1:] != segment[:, :-1]
    first = torch.where(begins, positions, 0).cummax(dim=1).values
    same = segment.unsqueeze(2) == segment.unsqueeze(1)  # (b, T, T)
    earlier = positions.unsqueeze(1) >= positions
    return {"attention_mask": (same & earlier).unsqueeze(1), "position_ids": positions - first}
