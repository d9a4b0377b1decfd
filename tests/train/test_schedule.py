"""How long a run is, and its learning rate."""

from __future__ import annotations

from itertools import pairwise

import pytest

from toremi_cli.errors import UsageError
from toremi_cli.train.check_config import check_config
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.schedule import activation_floats, fraction_of_peak, plan_schedule
from toremi_cli.train.shapes import PRESETS


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


def test_a_number_of_rows_makes_the_micro_steps():
    assert [plan(batch_size=16, micro_batch=rows).num_micro_steps for rows in (1, 5, 8, 16, 99)] == [16, 4, 2, 1, 1]
    assert plan(batch_size=16, micro_batch=2, world_size=4).num_micro_steps == 2


def test_as_many_micro_steps_as_the_rank_with_the_fewest_rows_has_rows():
    """Where that is an estimate; whoever gives a number is told."""
    large = {"context_length": 1024, "vocab_size": 2**18, "epoch_tokens": 10**6}  # one row has a gigabyte of logits
    assert plan_schedule(TrainConfig(batch_size=5), **large, world_size=2).num_micro_steps == 2
    with pytest.raises(UsageError, match="micro-steps; use 6 or more rows, or a larger --micro-batch"):
        plan_schedule(TrainConfig(batch_size=5, micro_batch=1), **large, world_size=2)


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

    gpt2 = [preset for name, preset in PRESETS.items() if name.startswith("gpt2")]
    assert [rate(preset.width) for preset in gpt2] == [preset.learning_rate for preset in gpt2]
    assert [rate(width) for width in (16, 64, 96)] == [0.01, 0.004, 0.0027]
    assert rate(512) == pytest.approx(7.9e-4, rel=0.02)
    assert rate(4096) == pytest.approx(1.2e-4, rel=0.1) and rate(12288) == pytest.approx(6e-5, rel=0.1)  # GPT-3's
    assert rate(64, learning_rate=0.02) == 0.02
    assert rate(64, learning_rate=0.0) == 0  # as a control that learns nothing
    assert rate(64, init_from="checkpoint") == 3e-4 and rate(4096, init_from="checkpoint") == rate(4096)
    assert TrainConfig(model="1m").preset.learning_rate == plan().learning_rate == 8e-3


def test_muons_rate_is_the_other_one_unless_it_is_given():
    assert [plan(muon_learning_rate=rate).muon_learning_rate for rate in (None, 0.5, 0.0)] == [8e-3, 0.5, 0]


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
    assert plan(max_steps=100_000, model="124m").warmup_steps == 2000


def test_a_decay_of_another_run_begins_at_its_checkpoint():
    schedule = plan(decay_from="stable/checkpoint-12", max_steps=16, schedule="wsd", warmup_steps=2)
    assert [fraction_of_peak(step, schedule) for step in (11, 15)] == [1.0, 0.1]
    assert fraction_of_peak(12, schedule) == pytest.approx(1 - 0.9 / 4)
    with pytest.raises(UsageError, match="has 12 steps, the whole run 10; expected more"):
        plan(decay_from="stable/checkpoint-12", max_steps=10)


def test_fewer_rows_than_ranks():
    with pytest.raises(UsageError, match="fewer than 2 processes x 3 micro-steps"):
        plan(batch_size=5, micro_batch=1, world_size=2)


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (100, 1), (100, 0), (7, 3), (1, 1), (1, 0), (5, 5)])
def test_every_schedule_is_exact_at_both_ends(kind, steps, warmup):
    schedule = plan(max_steps=steps, warmup_steps=warmup, schedule=kind, min_learning_rate=0.05)
    rates = [fraction_of_peak(step, schedule) for step in range(steps)]
    assert rates[0] == 1 / max(warmup, 1) and rates[max(warmup - 1, 0)] == 1.0
    if steps > max(warmup, 1):
        assert rates[-1] == (1.0 if kind == "constant" else 0.05)
    assert all(a >= b for a, b in pairwise(rates[max(warmup - 1, 0) :]))


def test_wsd_is_stable_then_decays_over_the_last_fifth():
    schedule = plan(max_steps=100, warmup_steps=10, schedule="wsd", min_learning_rate=0.0)
    rates = [fraction_of_peak(step, schedule) for step in range(100)]
    assert rates[9:80] == [1.0] * 71
    assert rates[80:] == pytest.approx([1 - (n + 1) / 20 for n in range(20)]) and rates[-1] == 0.0
    half = plan(max_steps=100, warmup_steps=10, schedule="wsd", min_learning_rate=0.0, decay_fraction=0.5)
    assert fraction_of_peak(74, half) == 0.5


def test_contradicting_flags():
    with pytest.raises(UsageError, match="one of the two"):
        check_config(TrainConfig(batch_size=1, batch_tokens=256))
    with pytest.raises(UsageError, match="--topics nix: expected one of labels"):
        check_config(TrainConfig(topics="nix"))
    with pytest.raises(UsageError, match="plain folder name"):
        check_config(TrainConfig(name="../x"))
