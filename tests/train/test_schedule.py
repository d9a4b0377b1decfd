"""How long a run is, and its learning rate."""

from __future__ import annotations

from itertools import pairwise

import pytest

from toremi_cli.errors import UsageError
from toremi_cli.train.config import PRESETS, TrainConfig, check_config
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


def test_on_a_gpu_its_memory_bounds_micro_steps():
    def rows(gib, num_layers=12, width=768, **settings):
        kept = activation_floats(num_layers, width, settings.get("gradient_checkpointing", False))
        config = TrainConfig(batch_size=4096, **settings)
        schedule = plan_schedule(config, 1024, 50304, 10**9, 1, kept, int(gib * 2**30))
        return -(-4096 // schedule.num_micro_steps)

    # GPT-2: a row is 1,024 x (34 x 12 x 768 + 3 x 50,304) x 4 bytes = 1.78 GiB, of .6 of the memory
    assert rows(140) == 47
    assert rows(24) == 8
    assert rows(140, chunked_loss=True) == 70
    assert rows(140, chunked_loss=True, gradient_checkpointing=True) > 500
    assert rows(1) == 1
    assert rows(100, num_layers=32, width=4096) == 3


def test_the_learning_rate_of_a_model_of_ones_own_follows_its_width():
    def rate(width, **settings):
        return plan_schedule(TrainConfig(model="x", **settings), 256, 8192, 10**6, 1, width=width).learning_rate

    assert [rate(preset.width) for preset in PRESETS.values()] == [p.learning_rate for p in PRESETS.values()]
    assert [rate(width) for width in (16, 64, 96)] == [0.01, 0.004, 0.0027]
    assert rate(512) == pytest.approx(7.7e-4, rel=0.02)
    assert rate(4096) == pytest.approx(1.2e-4, rel=0.1) and rate(12288) == pytest.approx(6e-5, rel=0.1)  # GPT-3's
    assert rate(64, learning_rate=0.02) == 0.02
    assert rate(64, init_from="checkpoint") == 3e-4 and rate(4096, init_from="checkpoint") == rate(4096)
    assert TrainConfig(model="tiny").preset.learning_rate == plan().learning_rate == 2e-3


def test_a_run_updates_the_weights_80_times():
    assert [plan(max_steps=n).interval for n in (5, 80, 600, 8000)] == [1, 1, 7, 100]
    assert plan(max_steps=600, interval=50).interval == 50


def test_evaluations_take_a_tenth_of_the_time():
    def number(eval_tokens, **settings):
        schedule = plan_schedule(TrainConfig(max_steps=800, **settings), 256, 8192, 10**6, 1, eval_tokens=eval_tokens)
        assert schedule.eval_every % schedule.interval == 0 or "eval_every" in settings
        return schedule.max_steps // schedule.eval_every

    trained = 800 * 8 * 256
    assert number(0) == number(trained * 0.3 / 90) == 80  # a third of the work of training on as many tokens
    assert 15 <= number(trained * 0.3 / 20) <= 20
    assert number(trained) == 5
    assert number(trained, eval_every=1) == 800
    assert number(0, interval=400) == 2


def test_warm_up_is_a_twentieth_rounded_up():
    assert [plan(max_steps=n).warmup_steps for n in (1, 20, 21, 40, 41, 10_000, 20_000)] == [1, 1, 2, 2, 3, 500, 500]


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
