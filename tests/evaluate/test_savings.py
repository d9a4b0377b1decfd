import json
import math

import numpy as np
import pytest

from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.evaluate.run_facts import RunFacts
from toremi_cli.evaluate.savings import saving_of
from toremi_cli.runs.history import CURVE, Course, History
from toremi_cli.runs.run import Run
from toremi_cli.schemas import MACRO

STEPS = np.arange(100, 1001, 100)
NUM_DOCUMENTS = 40


def scores_of(bits):
    """Scores of documents that cost so many bits a byte on average."""
    rate = bits + np.random.default_rng(0).normal(0, 0.05, NUM_DOCUMENTS)
    num_bytes = np.full(NUM_DOCUMENTS, 1000)
    ids = np.array([f"d{i:02d}" for i in range(NUM_DOCUMENTS)])
    nats = (rate - rate.mean() + bits) * num_bytes * math.log(2)
    return DocumentScores(np.array(["a"] * NUM_DOCUMENTS), ids, nats, num_bytes // 4, num_bytes)


@pytest.fixture
def make_run(tmp_path):
    """A run whose held-out loss falls along a line from 2 to `final` bits per byte in 1,000 steps of 10 tokens."""

    def make(name, seed, final, measured=()):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"config": {"seed": seed}}))
        run = Run(name, tmp_path / name)
        history = History(run, run.record, metrics={(CURVE, MACRO): Course(STEPS, STEPS * 10, loss_at(STEPS, final))})
        series = [(step * 10, scores_of(loss_at(step, final))) for step in measured]
        return RunFacts(run, history, "test", series[-1][1] if series else None, series)

    return make


def loss_at(step, final):
    return 2 + (final - 2) * step / 1000


@pytest.mark.parametrize("measured", [(), (200, 400, 600, 800, 1000)])
def test_groups_without_two_shared_seeds_are_held_against_each_other_as_means(make_run, measured):
    runs = [make_run(f"t{seed}", seed, final, measured) for seed, final in ((0, 0.4), (1, 0.6), (2, 0.8))]
    baseline = [make_run("u0", 0, 1.4, measured), make_run("u7", 7, 1.2, measured)]
    found = saving_of(runs, baseline)
    # The mean curve falls from 2 to 0.6, the baseline's mean is 1.3: there at half of 10,000 tokens.
    assert (found.tokens, found.saved) == pytest.approx((5000, 0.5))
    assert math.isnan(found.low) and math.isnan(found.high)
    assert found.source == ("checkpoints" if measured else "in-run")
    alone = saving_of(runs, baseline[:1])
    assert alone.saved == pytest.approx(1 - 0.6 / 1.4) and math.isnan(alone.low)


def test_runs_of_the_same_seeds_are_paired_and_others_left_out(make_run):
    runs = [make_run(f"t{seed}", seed, final) for seed, final in ((0, 0.4), (1, 0.6), (2, 0.8))]
    baseline = [make_run("u0", 0, 1.2), make_run("u1", 1, 1.3), make_run("u7", 7, 0.1)]
    found = saving_of(runs, baseline)
    assert found.saved == pytest.approx((0.5 + 0.5) / 2)
    assert found.low < found.saved < found.high or found.low == pytest.approx(found.high)
    never = saving_of(baseline, runs)
    assert math.isnan(never.saved) and never.num_reached == 0


def test_two_runs_are_compared_whatever_their_seeds(make_run):
    measured = (200, 400, 600, 800, 1000)
    found = saving_of([make_run("t", 3, 0.4, measured)], [make_run("u", 0, 1.2, measured)])
    assert found.source == "checkpoints" and found.low <= found.saved <= found.high
    assert found.saved == pytest.approx(0.5)


def test_seeds_that_were_measured_at_other_steps_fall_back_to_the_validation_curve(make_run):
    runs = [make_run("t0", 0, 0.6, (200, 600, 1000)), make_run("t1", 1, 0.6, (300, 600, 1000))]
    found = saving_of(runs, [make_run("u0", 0, 1.3, (1000,))])
    assert found.source == "in-run" and found.saved == pytest.approx(0.5)


def noisy_scores(rate, spread):
    """Documents of 1,000 bytes that cost `rate` bits a byte, plus `spread` of each (num_documents,)."""
    num_bytes = np.full(len(spread), 1000)
    nats = (rate + spread) * num_bytes * math.log(2)
    ids = np.array([f"d{i:02d}" for i in range(len(spread))])
    return DocumentScores(np.array(["a"] * len(spread)), ids, nats, num_bytes // 4, num_bytes)


def measured_pair(make_run, final, spread):
    """A run that falls to `final` and differs from its baseline, which ended at 1.2, by `spread` of each document."""
    run, base = make_run("t", 0, final), make_run("u", 0, 1.2, (1000,))
    run.series = [(step * 10, noisy_scores(loss_at(step, final), spread)) for step in range(200, 1001, 200)]
    base.series = [(10_000, noisy_scores(1.2, 0 * spread))]
    run.final, base.final = run.series[-1][1], base.series[-1][1]
    return run, base


def test_the_interval_of_the_saving_is_that_of_the_difference_along_the_curve(make_run):
    spread = np.random.default_rng(1).normal(0, 0.05, NUM_DOCUMENTS)
    spread -= spread.mean()
    found = saving_of(*[[run] for run in measured_pair(make_run, 0.4, spread)])
    assert found.saved == pytest.approx(0.5)
    # the curve falls by 1.6 in a run, so that an error of the loss moves the crossing by as much over 1.6
    half = 2.02 * spread.std(ddof=1) / math.sqrt(NUM_DOCUMENTS) / 1.6
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08), "95%, neither 90% nor 99%"


def test_a_resample_that_never_gets_there_has_saved_less_than_any_that_does(make_run):
    spread = np.random.default_rng(1).normal(0, 0.5, NUM_DOCUMENTS)
    spread -= spread.mean()
    found = saving_of(*[[run] for run in measured_pair(make_run, 1.1, spread)])
    assert found.low == -math.inf and 0 < found.saved < found.high < 1


def test_where_some_seeds_never_get_there_their_mean_curve_may(make_run):
    runs = [make_run(f"t{seed}", seed, final) for seed, final in ((0, 0.4), (1, 0.6), (2, 1.4))]
    baseline = [make_run(f"u{seed}", seed, 1.2) for seed in range(3)]
    found = saving_of(runs, baseline)
    assert (found.num_reached, found.num_pairs) == (2, 3)
    assert found.saved == pytest.approx(1 - 0.8 / 1.2), "the mean curve ends at 0.8"
    assert math.isnan(found.low), "it has no interval"
    lost = saving_of([make_run(f"v{seed}", seed, final) for seed, final in ((0, 1.1), (1, 1.5), (2, 1.6))], baseline)
    assert (lost.num_reached, lost.num_pairs) == (1, 3) and math.isnan(lost.saved)
