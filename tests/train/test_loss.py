"""The step's loss by hand: samples, not rows or tokens, are what is averaged and weighted."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from toremi_cli.reweight import TopicStatistics
from toremi_cli.train.index_folder import open_index
from toremi_cli.train.loader import BatchBuilder, prefetch
from toremi_cli.train.loss import normaliser, objective, sample_losses, segment_losses, segment_weights
from toremi_cli.train.order import shuffled_order
from toremi_cli.train.packing import RowStream


def builder(cache, mode="labels", row_length=16, batch_size=12, world_size=1, rank=0, micro_steps=1):
    index = open_index(cache, mode)
    return BatchBuilder(
        cache,
        index,
        RowStream(shuffled_order(index.samples, cache.length, "fp", 0), row_length),
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
    total = int((cache.length[open_index(cache, mode).samples] + 1).sum())
    return [first.next_batch() for _ in range(-(-total // (12 * 16)))]


def test_inputs_precede_targets(cache):
    for step in whole_epoch(cache)[:3]:
        (batch,) = step.micro_batches
        assert batch.inputs[:, 1:].equal(batch.targets[:, :-1])
        # The row after another one begins with the token that ended it.
        assert batch.inputs[1:, 0].equal(batch.targets[:-1, -1])


@pytest.mark.parametrize("row_length", [7, 16])
def test_rows_are_read_from_the_samples_wherever_they_are_cut(cache, row_length):
    rows = builder(cache, batch_size=240, row_length=row_length).stream.next_rows(240)
    (batch,) = builder(cache, batch_size=240, row_length=row_length).next_batch().micro_batches
    whole = [np.append(cache.sample_tokens(i), cache.meta["eos_id"]) for i in range(len(cache.length))]
    firsts = []
    for row in range(240):
        own = rows.row == row
        parts = list(zip(rows.sample[own], rows.start[own], rows.length[own], strict=True))
        assert batch.targets[row].tolist() == np.concatenate([whole[s][b : b + n] for s, b, n in parts]).tolist()
        sample, start, _ = parts[0]
        firsts.append(int(start))
        assert batch.inputs[row, 0] == (whole[sample][start - 1] if start else cache.meta["eos_id"])
    if row_length == 7:
        assert {0, 1} < set(firsts), "rows that begin with a sample's first and second token"
    # Bytes follow the tokens, so that the parts of a sample add up to its own.
    share = rows.length / (cache.length[rows.sample] + 1)
    assert (share < 1).any()
    np.testing.assert_allclose(batch.num_bytes.numpy(), cache.num_bytes[rows.sample] * share, rtol=1e-6)


def test_one_buffer_holds_the_same_tensors(cache):
    (batch,) = builder(cache).next_batch().micro_batches
    packed = batch.packed()
    assert packed.buffer.nbytes == sum(t.nbytes for t in batch._tensors().values())
    copied = packed._over(packed.buffer.clone())  # as a GPU gets it
    packed.buffer.zero_()
    for name, tensor in batch._tensors().items():
        other = getattr(copied, name)
        assert other.dtype == tensor.dtype and other.shape == tensor.shape and other.equal(tensor)
    assert packed.to(torch.device("meta")).inputs.shape == batch.inputs.shape


def test_batches_are_built_two_ahead_but_not_over_the_end_of_an_interval():
    class Builder:
        built = 0

        def next_batch(self):
            self.built += 1
            return self.built - 1

    stuck = Builder()
    for step, batch in enumerate(prefetch(stuck, range(9), lambda step: step % 4 != 0)):
        assert batch == step
        expected, deadline = min(step + 3, (step // 4 + 1) * 4, 9), time.monotonic() + 10
        while stuck.built < expected and time.monotonic() < deadline:
            time.sleep(0.001)
        assert stuck.built == expected


def test_objective_is_the_weighted_mean_over_samples(cache):
    weights = torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)
    pairs = open_index(cache, "labels").pairs
    step = builder(cache, batch_size=200, row_length=64).next_batch()
    (batch,) = step.micro_batches
    losses = token_losses(batch)
    by_segment = segment_weights(batch, weights, torch.ones(len(open_index(cache, "labels").strata.num_samples)))
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


def test_losses_in_bf16_are_summed_in_float32(cache):
    """FSDP may hand out bf16, in which 4.98 added often enough stops growing."""
    (batch,) = builder(cache, batch_size=200, row_length=64).next_batch().micro_batches
    losses = torch.full_like(batch.inputs, 4.98, dtype=torch.bfloat16)
    sums = segment_losses(losses, batch)
    torch.testing.assert_close(sums, float(losses[0, 0]) * batch.num_tokens)
    for average in ("sample", "token"):
        assert objective(sums, batch, torch.ones_like(batch.mass), average).dtype == torch.float32


@pytest.mark.parametrize("mode", ["labels", "fine", "source"])
@pytest.mark.parametrize(("world_size", "micro_steps"), [(2, 1), (3, 2), (4, 3), (6, 2)])
def test_ranks_and_micro_steps_sum_to_the_same(cache, mode, world_size, micro_steps):
    names = open_index(cache, mode).pairs.names
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
                ones = torch.ones(len(open_index(cache, mode).strata.num_samples))
                by_segment = segment_weights(batch, weights, ones)
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
