"""How long a run is, and its learning rate."""

from __future__ import annotations

from itertools import pairwise

import pytest

from toremi_cli.errors import UsageError
from toremi_cli.train.config import TrainConfig, check_config
from toremi_cli.train.schedule import activation_floats, learning_rate, plan_schedule


def plan(world_size=1, **settings):
    return plan_schedule(TrainConfig(**settings), 256, 8192, 1_000_000, world_size)


def test_one_epoch_where_no_length_is_given():
    schedule = plan()
    assert schedule.max_steps == 1_000_000 // (8 * 256)
    assert schedule.epochs == pytest.approx(1, abs=0.01)


def test_lengths_by_steps_tokens_and_epochs():
    assert plan(max_steps=7).max_steps == 7
    assert plan(max_tokens=8 * 256 * 9 + 5).max_steps == 9
    assert plan(epochs=2.5).max_steps == 2_500_000 // (8 * 256)


def test_micro_steps_bound_the_logits():
    assert plan(batch_size=16).num_micro_steps == 1
    assert plan(batch_size=1024).num_micro_steps == 8  # 128 rows x 256 x 8192 x 4 bytes = 1 GiB
    assert plan(batch_size=1024, world_size=4).num_micro_steps == 2
    assert plan(batch_tokens=4096).batch_size == 16


def test_without_logits_the_activations_bound_micro_steps():
    def micro_steps(num_layers, width, **settings):
        kept = activation_floats(num_layers, width, settings.get("gradient_checkpointing", False))
        config = TrainConfig(batch_size=480, **settings)
        return plan_schedule(config, 1024, 50304, 1_000_000, 1, kept).num_micro_steps

    assert micro_steps(12, 768) == 96  # 5 rows x 1,024 x 50,304 x 4 bytes < 1 GiB
    assert micro_steps(12, 768, chunked_loss=True) == 37  # 13 rows x 1,024 x 34 x 12 x 768 x 4 bytes < 16 GiB
    assert micro_steps(12, 768, chunked_loss=True, gradient_checkpointing=True) == 5
    assert micro_steps(48, 1600, chunked_loss=True) == 96  # no more of them than with the logits


def test_fewer_rows_than_ranks():
    with pytest.raises(UsageError, match="fewer than 2 processes x 3 micro-steps"):
        plan(batch_size=5, grad_accumulation=3, world_size=2)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_learning_rate_rises_then_falls_to_the_floor(kind):
    schedule = plan(max_steps=100, warmup_steps=10, learning_rate=1e-3)
    rates = [learning_rate(step, schedule, kind, 0.1) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == rates[10] == pytest.approx(1e-3)
    assert rates[100] == pytest.approx(1e-3 if kind == "constant" else 1e-4)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_contradicting_flags():
    with pytest.raises(UsageError, match="one of the two"):
        check_config(TrainConfig(batch_size=1, batch_tokens=256))
    with pytest.raises(UsageError, match="--topics nix: expected one of labels"):
        check_config(TrainConfig(topics="nix"))
    with pytest.raises(UsageError, match="plain folder name"):
        check_config(TrainConfig(name="../x"))
