"""From the weights of topics to the weights of samples, and the scale that keeps their mean at 1."""

from __future__ import annotations

import torch
from torch import Tensor

from toremi_cli.reweight.stats import IntervalStats


def sample_weights(
    topic_weights: Tensor, pair_sample: Tensor, pair_topic: Tensor, pair_prob: Tensor, num_samples: int
) -> Tensor:
    """(S,) weight of each sample: the mean of its topics' weights, weighted by probability; 1 without topics.

    ToReMi §2 takes the plain mean over a hard set: give it probabilities of 1. (Its code gives samples without topics
    the weight 0, which silently drops them.) Nothing here waits for the device.

    Args:
        topic_weights: (num_topics,) on the device of the pairs.
        pair_sample: (P,) int64, index of a sample in 0..S-1.
        pair_topic: (P,) int64, a topic that this sample carries.
        pair_prob: (P,) its probability.
        num_samples: S.
    """
    prob = pair_prob.to(topic_weights.dtype)
    weighted = topic_weights.new_zeros(num_samples).index_add(0, pair_sample, prob * topic_weights[pair_topic])
    total = topic_weights.new_zeros(num_samples).index_add(0, pair_sample, prob)
    return torch.where(total > 0, weighted / total.clamp_min(torch.finfo(total.dtype).tiny), 1.0)


def segment_mean(values: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """(S,) mean of token values (N,) over each segment; 0 for a segment without tokens."""
    total = values.new_zeros(num_segments).index_add(0, segment, values)
    count = values.new_zeros(num_segments).index_add(0, segment, values.new_ones(len(values)))
    return total / count.clamp_min(1)


def normalizer(weights: Tensor, stats: IntervalStats, average: str = "sample") -> float:
    """The factor on the loss that makes the mean weight over the interval 1, over what the loss averages over.

    A mean weight other than 1 changes the effective learning rate, so that a comparison with uniform weights is
    confounded. The factor is applied to the loss; tables keep the raw weights.

    Args:
        weights: (num_topics,) float64, on the CPU.
        stats: an interval, with its shares.
        average: "sample" or "token".
    """
    total, weighted = stats.totals(weights, average)
    return total / weighted if weighted > 0 else 1.0
