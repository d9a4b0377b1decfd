"""Token losses from a Hugging Face model's logits, without float32 copies of all of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from toremi_cli.integrations.hf_batch import IGNORED, BatchTopics
from toremi_cli.reweight import other_tokens

CHUNK_LOGITS = 2**25
"""Logits that are held in float32 at a time: 128 MiB."""


def token_losses(logits: Tensor, labels: Tensor, batch: BatchTopics) -> tuple[Tensor, Tensor]:
    """Nats of each label, and of another label of its sample under the same prediction; 0 where none is predicted.

    The logits are taken to float32 some rows at a time, and again in the backward pass: several float32 copies of all
    of them would be most of a step's memory.

    Args:
        logits: (B, T, vocabulary).
        labels: (B, T); position t predicts label t + 1.
        batch: the samples.

    Returns:
        twice (B * (T - 1),) float32.
    """
    targets = labels[:, 1:]
    known = targets.flatten().clamp_min(0)
    segment = torch.where(batch.valid > 0, batch.segment, -1)
    others = known[other_tokens(segment, targets.shape[1])].view_as(targets)
    # The last position predicts nothing, but without it the logits would have to be copied to lie in one piece.
    columns = (functional.pad(targets, (0, 1), value=IGNORED), functional.pad(others, (0, 1)))
    rows = max(CHUNK_LOGITS // logits.shape[-1], 1)
    parts = zip(*(x.split(rows) for x in (logits.flatten(0, 1), *(c.flatten() for c in columns))), strict=True)
    found = [checkpoint(_chunk_losses, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    losses, shuffled = (torch.cat(column).view_as(labels)[:, :-1].flatten() for column in zip(*found, strict=True))
    return losses, shuffled


def _chunk_losses(logits: Tensor, targets: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Both losses of `token_losses` for some rows: logits (n, vocabulary), targets and others (n,)."""
    logits = logits.float()
    losses = functional.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)
    with torch.no_grad():
        of_target, of_other = (logits.gather(1, t.clamp_min(0).unsqueeze(1)).squeeze(1) for t in (targets, others))
        shuffled = (losses + of_target - of_other) * (targets != IGNORED)
    return losses, shuffled
