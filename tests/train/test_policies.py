"""Every policy in a run: micro-steps and ranks don't matter, and what sampling draws is what the weights ask for."""

from __future__ import annotations

import json
import math
import shutil

import pytest
from safetensors.torch import load_file

from tests.train.smallrun import metrics, weights
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.worker import run_worker

POLICIES = {
    "toremi": {"apply": "both", "max_repeats": 0.0},
    "toremi-2": {"stage_switch": "step:8", "normalize": True},
    "linupper": {"burn_in_steps": 4},
    "stratified": {},
    "odm": {"apply": "both"},
    "group-dro": {},
}


@pytest.fixture(scope="session")
def train(workdir):
    """Train in this process; return the run's folder."""

    def run(name, policy, **settings):
        small = {"context_length": 32, "batch_size": 6, "max_steps": 16, "interval": 4, "log_every": 4}
        small |= {"eval_samples": 3, "learning_rate": 0.01, "model": str(workdir / "model.json"), "quiet": True}
        config = TrainConfig(**{**small, "workdir": str(workdir), "name": name, "policy": policy, **settings})
        assert run_worker(config, resume=False)["exit_code"] == 0
        return workdir / "runs" / name

    return run


@pytest.mark.parametrize("name", POLICIES)
def test_accumulation_changes_nothing(train, name):
    policy = {"name": name, **POLICIES[name]}
    alone = train(f"{name}-alone", policy, topics="fine")
    shared = train(f"{name}-shared", policy, topics="fine", grad_accumulation=3)
    for a, b in zip(weights(alone), weights(shared), strict=True):
        assert (a["step"], a["topic"], a["stage"]) == (b["step"], b["topic"], b["stage"])
        assert a["weight"] == pytest.approx(b["weight"], rel=1e-3)
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
    for a, b in zip(metrics(alone, "train_loss"), metrics(shared, "train_loss"), strict=True):
        assert a["value"] == pytest.approx(b["value"], rel=1e-3)


def test_sampling_resumes_exactly(train):
    settings = {"policy": {"name": "toremi"}, "topics": "soft", "checkpoint_every": 6, "keep_checkpoints": 0}
    whole = train("sampling-whole", **settings)
    part = train("sampling-part", **settings)
    for checkpoint in ("checkpoint-12", "checkpoint-16"):
        shutil.rmtree(part / checkpoint)  # as if killed after step 6
    config = TrainConfig.from_json(json.loads((part / "run.json").read_text())["config"])
    run_worker(config, resume=True)
    assert weights(part) == weights(whole)
    assert metrics(part) == metrics(whole)
    a, b = (load_file(run / "checkpoint-16" / "model.safetensors") for run in (part, whole))
    assert all(a[name].equal(b[name]) for name in a)


@pytest.mark.parametrize("sensitivity", ["hidden", "el2n"])
def test_sensitivity_is_measured(train, sensitivity):
    run = train(f"by-{sensitivity}", {"name": "uniform"}, sensitivity=sensitivity, topics="fine")
    values = [row["value"] for row in metrics(run, "sensitivity")]
    assert values
    assert all(math.isfinite(v) and v > 0 for v in values)


def test_hidden_sensitivity_does_not_depend_on_the_weights(train):
    plain = train("plain", {"name": "uniform"}, sensitivity="hidden", topics="fine", max_steps=4)
    weighted = train(
        "weighted",
        {"name": "random-weights"},
        sensitivity="hidden",
        topics="fine",
        max_steps=4,
        grad_accumulation=2,
        learning_rate=1e-9,
    )
    slow = train("slow", {"name": "uniform"}, sensitivity="hidden", topics="fine", max_steps=4, learning_rate=1e-9)
    assert metrics(plain, "sensitivity")
    for a, b in zip(metrics(weighted, "sensitivity"), metrics(slow, "sensitivity"), strict=True):
        assert a["value"] == pytest.approx(b["value"], rel=1e-3)


def test_stratified_sampling_evens_the_topics(train):
    run = train("even", {"name": "stratified", "sampling_floor": 0.0, "max_repeats": 0.0}, topics="fine", max_steps=24)
    repeats = metrics(run, "repeats")
    assert {row["domain"] for row in repeats} == {"ball", "vote", "court"}
    losses = weights(run)
    seen = {t: sum(r["num_samples"] for r in losses if r["topic"] == t) for t in ("ball", "vote", "court")}
    assert max(seen.values()) < 1.5 * min(seen.values())


def test_frozen_replays_another_run(train):
    first = train("first", {"name": "toremi-2"}, topics="source")
    again = train("again", {"name": "frozen"}, topics="source", weights_from=str(first / "weights"))
    assert [r["weight"] for r in weights(again)] == [r["weight"] for r in weights(first)]


def test_metrics_reach_tensorboard(train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train("tracked", {"name": "toremi-2"}, log_with="tensorboard")
    events = EventAccumulator(str(run / "tracker"))
    events.Reload()
    logged = [(event.step, event.value) for event in events.Scalars("train_loss/all")]
    assert logged == [(r["step"], pytest.approx(r["value"], rel=1e-5)) for r in metrics(run, "train_loss")]
