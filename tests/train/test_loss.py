"""The step's loss by hand: samples, not rows or tokens, are what is averaged and weighted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toremi_cli.reweight import TopicStatistics
from toremi_cli.schemas import TRAIN
from toremi_cli.train.loader import BatchBuilder
from toremi_cli.train.loss import normaliser, objective, sample_losses, segment_losses, segment_weights
from toremi_cli.train.order import ShuffledOrder
from toremi_cli.train.packing import RowStream


def builder(cache, mode="labels", row_length=16, batch_size=12, world_size=1, rank=0, micro_steps=1):
    predicted = cache.length.astype(np.int64) + 1
    order = ShuffledOrder(cache.samples_of(TRAIN), predicted, "fp", 0)
    return BatchBuilder(
        cache,
        cache.topic_pairs(mode),
        RowStream(order, predicted, row_length),
        batch_size=batch_size,
        world_size=world_size,
        rank=rank,
        num_micro_steps=micro_steps,
    )


def token_losses(batch):
    """Stands for a model: a fixed loss for each (input, target)."""
    return ((batch.inputs * 31 + batch.targets * 17) % 101).float() / 10


def whole_epoch(cache, mode="labels", **ranks):
    """Batches that together hold every training sample once, and a bit of the next epoch."""
    first = builder(cache, mode, **ranks)
    total = int((cache.length[cache.samples_of(TRAIN)] + 1).sum())
    return [first.next_batch() for _ in range(-(-total // (12 * 16)))]


def test_inputs_precede_targets(cache):
    for step in whole_epoch(cache)[:3]:
        (batch,) = step.micro_batches
        assert batch.inputs[:, 1:].equal(batch.targets[:, :-1])
        # The row after another one begins with the token that ended it.
        assert batch.inputs[1:, 0].equal(batch.targets[:-1, -1])


def test_objective_is_the_weighted_mean_over_samples(cache):
    weights = torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)
    pairs = cache.topic_pairs("labels")
    step = builder(cache, batch_size=200, row_length=64).next_batch()
    (batch,) = step.micro_batches
    losses = token_losses(batch)
    by_segment = segment_weights(batch, weights, torch.ones(1))
    found = objective(segment_losses(losses, batch), batch, by_segment, "sample") / step.total_mass
    expected, mass = 0.0, 0.0
    flat, position = losses.flatten().tolist(), 0
    stream = builder(cache, batch_size=200, row_length=64).stream.next_rows(200)
    for sample, length in zip(stream.sample.tolist(), stream.length.tolist(), strict=True):
        topics = pairs.topic[pairs.indptr[sample] : pairs.indptr[sample + 1]]
        weight = float(weights[topics].mean()) if len(topics) else 1.0
        predicted = int(cache.length[sample]) + 1
        expected += weight * sum(flat[position : position + length]) / predicted
        mass += length / predicted
        position += length
    assert float(found) == pytest.approx(expected / mass, rel=1e-5)
    assert step.total_mass == pytest.approx(mass)
    assert normaliser(step.total_mass, step.total_tokens, "token") == 200 * 64


@pytest.mark.parametrize("mode", ["labels", "fine", "soft", "source"])
@pytest.mark.parametrize(("world_size", "micro_steps"), [(2, 1), (3, 2), (4, 3), (6, 2)])
def test_ranks_and_micro_steps_sum_to_the_same(cache, mode, world_size, micro_steps):
    names = cache.topic_pairs(mode).names
    weights = torch.linspace(0.5, 2.0, len(names), dtype=torch.float64)
    alone = _totals(cache, mode, weights, 1, 1)
    shared = _totals(cache, mode, weights, world_size, micro_steps)
    assert shared[0] == pytest.approx(alone[0], rel=1e-5)
    torch.testing.assert_close(shared[1][:-1], alone[1][:-1], rtol=1e-5, atol=1e-5)


def _totals(cache, mode, weights, world_size, micro_steps):
    """Sum of objectives over the ranks, and their statistics."""
    statistics = TopicStatistics(len(weights))
    total = 0.0
    for rank in range(world_size):
        for step in whole_epoch(cache, mode, world_size=world_size, rank=rank, micro_steps=micro_steps)[:3]:
            for batch in step.micro_batches:
                sums = segment_losses(token_losses(batch), batch)
                by_segment = segment_weights(batch, weights, torch.ones(1))
                total += float(objective(sums, batch, by_segment, "sample")) / step.total_mass
                statistics.add(
                    sample_losses(sums, batch),
                    batch.mass,
                    batch.pair_segment,
                    batch.pair_topic,
                    batch.pair_prob,
                    sample_tokens=batch.num_tokens,
                    sample_bytes=batch.num_bytes,
                )
    return total, statistics.buffer
