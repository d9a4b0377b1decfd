"""Token losses from a Hugging Face model's logits, without float32 copies of all of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from toremi_cli.integrations.hf_batch import IGNORED, BatchTopics
from toremi_cli.reweight import context_sums, other_tokens

CHUNK_LOGITS = 2**25
"""Logits that are held in float32 at a time: 128 MiB."""


def token_losses(
    logits: Tensor, labels: Tensor, batch: BatchTopics, word_beginnings: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Nats of each label, 0 where none is predicted; and what context tells of the samples' labels.

    The logits are taken to float32 some rows at a time, and again in the backward pass: several float32 copies of all
    of them would be most of a step's memory.

    Args:
        logits: (B, T, vocabulary).
        labels: (B, T); position t predicts label t + 1.
        batch: the samples.
        word_beginnings: (vocab,) bool: tokens that begin a word; None: all count as such.

    Returns:
        (B * (T - 1),) float32, and (3, num_samples) `context_sums`.
    """
    targets = labels[:, 1:]
    known = targets.flatten().clamp_min(0)
    segment = torch.where(batch.valid > 0, batch.segment, -1)
    begins = torch.ones_like(known, dtype=torch.bool) if word_beginnings is None else word_beginnings[known]
    others = known[other_tokens(segment, targets.shape[1], begins)].view(*targets.shape, 2)
    # The last position predicts nothing, but without it the logits would have to be copied to lie in one piece.
    columns = (functional.pad(targets, (0, 1), value=IGNORED), functional.pad(others, (0, 0, 0, 1)))
    rows = max(CHUNK_LOGITS // logits.shape[-1], 1)
    parts = zip(*(x.split(rows) for x in (logits.flatten(0, 1), *(c.flatten(0, 1) for c in columns))), strict=True)
    found = [checkpoint(_chunk_losses, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    losses, shuffled = (
        torch.cat(column).unflatten(0, labels.shape)[:, :-1].flatten(0, 1) for column in zip(*found, strict=True)
    )
    return losses, context_sums(losses, shuffled, batch.segment, len(batch.num_tokens), begins & (batch.valid > 0))


def _chunk_losses(logits: Tensor, targets: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of targets and of others for some rows: logits (n, vocabulary), targets and others (n,)."""
    logits = logits.float()
    losses = functional.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)
    with torch.no_grad():
        is_known = (targets != IGNORED).unsqueeze(1)
        of_target = logits.gather(1, targets.clamp_min(0).unsqueeze(1))
        shuffled = (losses.unsqueeze(1) + of_target - logits.gather(1, others)) * is_known
    return losses, shuffled
