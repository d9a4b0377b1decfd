"""From a Hugging Face batch to samples and their topics: tensors of fixed shapes, so that nothing waits for the device.

A batch tells its topics in one of two ways:

- `topic_ids`: (B, M) int64, the topics of each row, which is one sample; -1 fills up. `topic_probs`: (B, M), optional.
- `token_topic_ids`: (B, T) int64, the topic of each token of packed rows, -1 for none. Neighbouring tokens of the same
  topic in a row are one sample; `segment_ids`, (B, T), optional, parts samples of the same topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
KEYS = ("topic_ids", "topic_probs", "token_topic_ids", "segment_ids")
"""Keys of a batch that are for us and not for the model."""


@dataclass(frozen=True)
class BatchTopics:
    """The samples of a batch. S bounds their number; an index that no token has is no sample."""

    segment: Tensor
    """(B * (T - 1),) int64: sample of each predicted token."""
    valid: Tensor
    """(B * (T - 1),) float32: 1 where a label is to be predicted."""
    num_tokens: Tensor
    """(S,) float32: predicted tokens of each sample; 0 for none."""
    pair_sample: Tensor
    """(P,) int64"""
    pair_topic: Tensor
    """(P,) int64"""
    pair_prob: Tensor
    """(P,) float32; 0 for a pair that only fills up."""
    row: Tensor
    """(S,) int64: the row of the batch that each sample stands in."""

    num_rows: int
    """B."""

    @property
    def num_samples(self) -> Tensor:
        """() float32: samples with a token to predict, on the device."""
        return (self.num_tokens > 0).float().sum()


def batch_topics(inputs: Mapping[str, Any]) -> BatchTopics:
    """Read the samples and topics of a batch with `labels` (B, T), which the loss shifts by one.

    Raises:
        ValueError: no labels, no topics, or of shapes that don't fit the labels.
    """
    if inputs.get("labels") is None:
        raise ValueError("the batch has no 'labels' (B, T); expected those of a causal language model")
    labels: Tensor = inputs["labels"]
    valid = (labels[:, 1:] != IGNORED).float().flatten()
    if inputs.get("token_topic_ids") is not None:
        return _by_token(inputs, labels, valid)
    if inputs.get("topic_ids") is None:
        raise ValueError("the batch has neither 'topic_ids' (B, M) nor 'token_topic_ids' (B, T)")
    topic_ids: Tensor = inputs["topic_ids"]
    if topic_ids.dim() != 2 or topic_ids.shape[0] != labels.shape[0]:
        raise ValueError(f"'topic_ids' is {tuple(topic_ids.shape)}; expected (B, M) with B = {labels.shape[0]}")
    rows, width = topic_ids.shape
    segment = torch.arange(rows, device=labels.device).repeat_interleave(labels.shape[1] - 1)
    probs = inputs.get("topic_probs")
    prob = torch.ones_like(topic_ids, dtype=torch.float32) if probs is None else probs.float()
    return BatchTopics(
        segment=segment,
        valid=valid,
        num_tokens=_count(segment, valid, rows),
        pair_sample=torch.arange(rows, device=labels.device).repeat_interleave(width),
        pair_topic=topic_ids.clamp_min(0).flatten(),
        pair_prob=(prob * (topic_ids >= 0)).flatten(),
        row=torch.arange(rows, device=labels.device),
        num_rows=rows,
    )


def _by_token(inputs: Mapping[str, Any], labels: Tensor, valid: Tensor) -> BatchTopics:
    topic_ids: Tensor = inputs["token_topic_ids"]
    if topic_ids.shape != labels.shape:
        raise ValueError(f"'token_topic_ids' is {tuple(topic_ids.shape)}; expected {tuple(labels.shape)} as the labels")
    # The token that is predicted decides, so everything is shifted as the labels are.
    shifted = topic_ids[:, 1:]
    begins = torch.ones_like(shifted, dtype=torch.bool)
    begins[:, 1:] = shifted[:, 1:] != shifted[:, :-1]
    if inputs.get("segment_ids") is not None:
        parts = inputs["segment_ids"][:, 1:]
        begins[:, 1:] |= parts[:, 1:] != parts[:, :-1]
    segment = begins.flatten().long().cumsum(0) - 1
    size = segment.shape[0]
    num_tokens = _count(segment, valid, size)
    row = torch.arange(len(labels), device=labels.device).repeat_interleave(shifted.shape[1])
    topic = torch.full((size,), -1, dtype=torch.int64, device=labels.device).scatter(0, segment, shifted.flatten())
    return BatchTopics(
        segment=segment,
        valid=valid,
        num_tokens=num_tokens,
        pair_sample=torch.arange(size, device=labels.device),
        pair_topic=topic.clamp_min(0),
        pair_prob=((topic >= 0) & (num_tokens > 0)).float(),
        row=torch.zeros_like(segment).scatter(0, segment, row),
        num_rows=len(labels),
    )


def _count(segment: Tensor, valid: Tensor, size: int) -> Tensor:
    return valid.new_zeros(size).index_add(0, segment, valid)
