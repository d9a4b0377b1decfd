"""`--decay-from`: one stable run serves several lengths."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from safetensors.torch import load_file

from tests.train.both_ranks import config
from tests.train.smallrun import metrics
from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.train.decaying import decay_settings
from toremi_cli.train.worker import run_worker

KEEP = {"checkpoint_every": 4, "keep_checkpoints": 0, "optimizer": "muon", "eval_every": 4}


@pytest.fixture(scope="module")
def runs(workdir):
    """A run that stays at the peak, and one that decays from step 12 on, as its schedule says."""
    run_worker(config(workdir, "toremi-2", "stable", schedule="constant", **KEEP), resume=False)
    run_worker(config(workdir, "toremi-2", "planned", schedule="wsd", max_steps=15, **KEEP), resume=False)
    return workdir


def decay(workdir, of, given=(), name="later", **settings):
    asked = replace(config(workdir, "uniform", "", decay_from=of, **settings), name=name)
    return decay_settings(asked, {"decay_from", "name", *given})


def test_a_later_decay_equals_one_that_was_planned(runs):
    settings = decay(runs, "stable-toremi-2/checkpoint-12", max_steps=0)
    assert (settings.max_steps, settings.optimizer, settings.policy["name"]) == (15, "muon", "toremi-2")
    run_worker(settings, resume=False)
    planned, later = (runs / "runs" / name for name in ("planned-toremi-2", "later"))
    a, b = (load_file(run / "checkpoint-15" / "model.safetensors") for run in (planned, later))
    assert a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a)
    assert metrics(later) == [row for row in metrics(planned) if row["step"] > 12]


@pytest.mark.parametrize("log_every", [1, 20])
def test_a_decay_may_log_at_other_steps_than_its_origin(runs, log_every):
    """Its settings, as they stand in its config file, make the same run again."""
    name = f"logged-{log_every}"
    settings = decay(runs, "stable-toremi-2/checkpoint-12", max_steps=0, name=name, log_every=log_every)
    assert decay_settings(settings, {field.name for field in fields(settings)}) == settings
    run_worker(settings, resume=False)
    planned, later = (runs / "runs" / run / "checkpoint-15" for run in ("planned-toremi-2", name))
    a, b = (load_file(checkpoint / "model.safetensors") for checkpoint in (planned, later))
    assert a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a)


def test_the_last_checkpoint_at_the_peak_is_taken(runs):
    assert decay(runs, "stable-toremi-2", max_steps=0).decay_from == "stable-toremi-2/checkpoint-16"
    assert decay(runs, "stable-toremi-2", name="").run_name == "stable-toremi-2-decay"
    assert decay(runs, "planned-toremi-2", max_steps=0).decay_from == "planned-toremi-2/checkpoint-12"


@pytest.mark.parametrize(
    ("of", "settings", "problem"),
    [
        ("planned-toremi-2/checkpoint-15", {}, r"not between the warm-up \(step 1\) and the decay \(step 12\)"),
        ("planned-toremi-2/checkpoint-13", {}, "no such checkpoint; there are checkpoint-4, checkpoint-8"),
        ("stable-toremi-2", {"given": ["beta1"], "beta1": 0.5}, "settings of stable-toremi-2; leave out --beta1"),
        ("cosine-uniform", {}, r"it decays from step 1 on \(cosine\)"),
    ],
)
def test_what_cannot_decay_is_refused(runs, of, settings, problem):
    if of.startswith("cosine") and not (runs / "runs" / of).exists():
        run_worker(config(runs, "uniform", "cosine", schedule="cosine", max_steps=2), resume=False)
    with pytest.raises(UsageError, match=problem):
        decay(runs, of, **settings)


def test_a_run_that_was_never_trained(runs):
    with pytest.raises(TrainingError, match=r"--decay-from nix: .*nix holds no run"):
        decay(runs, "nix")
