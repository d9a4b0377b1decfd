"""From token losses to the step's loss: sums by segment, weights by topic, one normaliser for the global batch.

ToReMi §2: the step's loss is mean_i(weight_i * loss_i) over the samples of the global batch, loss_i the mean over the
sample's own predicted tokens. With samples that rows cut into segments s of mass m_s, over all ranks and micro-steps:

    sum_s(weight_s * (token losses of s) / (predicted tokens of its sample)) / sum_s(m_s)
"""

from __future__ import annotations

import torch
from torch import Tensor

from toremi_cli.reweight import context_sums, sample_weights, segment_mean
from toremi_cli.train.loader import MicroBatch
from toremi_cli.train.token_loss import TokenLoss


def segment_losses(token_losses: Tensor, batch: MicroBatch) -> Tensor:
    """(S,) sum of each segment's token losses, from (b, T); at least float32, whatever comes in."""
    zeros = token_losses.new_zeros(batch.mass.shape[0], dtype=torch.promote_types(token_losses.dtype, torch.float32))
    return zeros.index_add(0, batch.segment, token_losses.flatten().to(zeros.dtype))


def segment_context(losses: TokenLoss, token_losses: Tensor, batch: MicroBatch) -> Tensor:
    """(3, S) `context_sums` of the segments, from (b, T), of the batch just passed through the model."""
    shuffled, losses.shuffled_losses = losses.shuffled_losses, None
    assert shuffled is not None
    begins = losses.begins_word(batch.targets.flatten())
    return context_sums(token_losses.flatten(), shuffled, batch.segment, batch.mass.shape[0], begins)


def sample_losses(segment_sums: Tensor, batch: MicroBatch) -> Tensor:
    """(S,) each segment's part of its sample's mean loss: its sum over the predicted tokens of the whole sample."""
    return segment_sums / batch.num_predicted


def segment_weights(batch: MicroBatch, topic_weights: Tensor, stratum_factors: Tensor) -> Tensor:
    """(S,) float32 weight of each segment's sample on the loss.

    Args:
        batch: its segments and pairs.
        topic_weights: (num_topics,) float64 in force on the loss.
        stratum_factors: (num_strata,) float64 correction of what the sampling does not follow.
    """
    weights = sample_weights(topic_weights, batch.pair_segment, batch.pair_topic, batch.pair_prob, batch.mass.shape[0])
    return (weights * stratum_factors[batch.stratum]).float()


def objective(segment_sums: Tensor, batch: MicroBatch, weights: Tensor, average: str) -> Tensor:
    """This micro-batch's share of the step's loss, before the division by `normaliser`: a scalar.

    Args:
        segment_sums: (S,) from `segment_losses`.
        batch: its segments.
        weights: (S,) of the segments' samples.
        average: "sample" for the mean over samples, "token" for the mean over tokens.
    """
    losses = sample_losses(segment_sums, batch) if average == "sample" else segment_sums
    return torch.dot(weights, losses)


def segment_sensitivity(losses: TokenLoss, batch: MicroBatch, factors: Tensor, average: str) -> Tensor | None:
    """(S,) gradient sensitivity of each segment, after the backward pass; None where not measured.

    Args:
        losses: the model behind its loss, just used for this batch.
        batch: its segments.
        factors: (S,) what the objective multiplied each segment's losses with.
        average: see `objective`.
    """
    values, losses.token_sensitivity = losses.token_sensitivity, None
    if values is None:
        return None
    # Gradients carry the factor of their token's loss: it is taken out.
    by_token = (factors / batch.num_predicted if average == "sample" else factors).abs().clamp_min(1e-30)
    return segment_mean(values.flatten(), batch.segment, batch.mass.shape[0]) / by_token


def normaliser(total_mass: float, total_tokens: int, average: str) -> float:
    """What the objectives of all micro-batches and ranks are divided by: samples or tokens of the global batch."""
    return total_mass if average == "sample" else float(total_tokens)
