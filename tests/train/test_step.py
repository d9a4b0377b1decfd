"""What a step leaves in the statistics, against the same reckoned from its batch."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from tests.train.both_ranks import assembled
from toremi_cli.train.loop import train_step
from toremi_cli.train.run import put_in_force


@pytest.fixture
def begun(workdir):
    return partial(assembled, workdir, "step", sensitivity=True)


def test_topic_losses_are_those_of_natural_sampling(begun):
    """Samples of several labels are of other strata than those of one: each counts by how often it is drawn."""
    run = begun(topics="labels", batch_size=60)
    run.sampling.update(torch.tensor([5.0, 0.2, 0.1]).double(), run.remaining_tokens, run.interval_tokens)
    put_in_force(run)
    batch = run.builder.next_batch()
    train_step(run, batch)
    natural = run.sampling.strata.num_samples / run.sampling.strata.num_samples.sum()
    factor = natural / run.sampling.order.draws.shares
    assert len({round(float(x), 3) for x in factor}) > 2
    (micro,) = batch.micro_batches
    expected = np.zeros(len(run.policy.topics))
    for segment, topic, prob in zip(micro.pair_segment, micro.pair_topic, micro.pair_prob, strict=True):
        expected[topic] += float(prob * micro.mass[segment]) * factor[micro.stratum[segment]]
    stats = run.statistics.read(1)
    mass = run.statistics.buffer[:-1, 1]
    np.testing.assert_allclose(mass.numpy(), expected, rtol=1e-5)
    assert stats.sensitivity is not None


def test_sensitivity_is_that_of_the_losses_alone(begun):
    """Whatever multiplies them: the mean over samples or tokens, the size of the batch, micro-steps, weights."""
    found = {}
    for average in ("sample", "token"):
        for micro_steps in (1, 3):
            run = begun("toremi-2", loss_average=average, micro_batch=12 // micro_steps, batch_size=12)
            run.loss_weights = torch.linspace(0.5, 3, len(run.loss_weights)).double()
            train_step(run, run.builder.next_batch())
            found[average, micro_steps] = run.statistics.read(1).sensitivity
    plain = by_hand(begun("toremi-2", batch_size=12))
    for sensitivity in found.values():
        torch.testing.assert_close(sensitivity, plain, rtol=1e-3, atol=0)


def by_hand(run):
    """(num_topics,) mean norm of the gradient of a token's own loss at the last hidden state."""
    (batch,) = run.builder.next_batch().micro_batches
    hidden = run.model.base_model(input_ids=batch.inputs)[0]
    losses = torch.nn.functional.cross_entropy(
        run.model.lm_head(hidden).flatten(0, 1), batch.targets.flatten(), reduction="none"
    )
    (gradient,) = torch.autograd.grad(losses.sum(), hidden)
    norms = torch.linalg.vector_norm(gradient, dim=-1).flatten()
    means = torch.zeros(len(batch.mass)).index_add(0, batch.segment, norms) / batch.num_tokens
    share = batch.pair_prob * batch.mass[batch.pair_segment]
    zeros = torch.zeros(len(run.policy.topics), dtype=torch.float64)
    total = zeros.index_add(0, batch.pair_topic, (share * means[batch.pair_segment]).double())
    return total / zeros.index_add(0, batch.pair_topic, share.double())


@pytest.mark.parametrize("length", [1, 2, 3])
def test_rows_of_a_few_tokens(begun, length):
    run = begun(context_length=length, batch_size=24)
    train_step(run, run.builder.next_batch())
    assert torch.isfinite(run.window.buffer[0]).all() and run.window.buffer[0, 2] > 0
