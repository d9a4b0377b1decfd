"""Two ranks that share parameters, gradients and optimizer state train what one rank trains, and resume exactly."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from tests.shell import environment
from tests.train.both_ranks import config
from tests.train.sharded_ranks import VARIANTS, copy_stopped, variant
from tests.train.smallrun import assert_alike, metrics, weights
from toremi_cli.train.worker import run_worker


@pytest.fixture(scope="module")
def both_ranks(workdir):
    """The runs of `tests.train.sharded_ranks`; what the ranks printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [_start(workdir, rank, port) for rank in range(2)]
    printed = []
    for process in ranks:
        out, err = process.communicate(timeout=1800)
        assert process.returncode == 0, err
        printed.append(out)
    return printed


@pytest.fixture(autouse=True)
def _any_precision():
    """Each run of this process may have its own: accelerate remembers that of the first."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def _start(workdir, rank, port):
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.train.sharded_ranks", str(workdir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**ranks, MASTER_PORT=port),
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_measured_is_the_same_in_any_precision(workdir, both_ranks, name):
    """Losses are summed in float32 or more: in bf16 a topic's would be off by a tenth."""
    plain = {"name": f"{name}-alone", "grad_accumulation": 1, "gradient_checkpointing": False, "chunked_loss": False}
    run_worker(replace(variant(workdir, name), **plain), resume=False)
    alone, ranks = workdir / "runs" / f"{name}-alone", workdir / "runs" / f"{name}-toremi"
    is_bf16 = name.endswith("bf16")
    for a, b in zip(weights(alone), weights(ranks), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=3e-3 if is_bf16 else 1e-4)
        assert b["weight"] == pytest.approx(a["weight"], rel=3e-2 if is_bf16 else 1e-3)
    for a, b in zip(metrics(alone), metrics(ranks), strict=True):
        if a["name"] in ("train_loss", "objective", "grad_norm", "eval_loss"):
            assert b["value"] == pytest.approx(a["value"], rel=1e-2 if is_bf16 else 1e-3), a
    one, other = parameters(alone, 8), parameters(ranks, 8)
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}
    assert all(v.dtype == torch.float32 for v in other.values())


@pytest.fixture(scope="module")
def one_rank(workdir):
    run_worker(config(workdir, "toremi", "single", eval_every=8), resume=False)
    return workdir / "runs" / "single-toremi"


def parameters(run, step=16):
    return load_file(run / f"checkpoint-{step}" / "model.safetensors")


@pytest.mark.parametrize("name", ["sharded", "efficient"])
def test_sharded_ranks_equal_one(workdir, both_ranks, one_rank, name):
    run = workdir / "runs" / f"{name}-toremi"
    assert_alike(one_rank, run)
    alone, shared = parameters(one_rank), parameters(run)
    assert alone.keys() == shared.keys()
    assert all(alone[key].allclose(shared[key], atol=2e-3) for key in alone)


@pytest.mark.parametrize(
    ("name", "again", "last"),
    [("sharded", "resumed", 16), *((name, f"{name}-resumed", 8) for name in VARIANTS)],
)
def test_a_sharded_run_resumes_exactly(workdir, both_ranks, name, again, last):
    whole, resumed = (workdir / "runs" / f"{run}-toremi" for run in (name, again))
    assert weights(resumed) == weights(whole)
    assert metrics(resumed) == metrics(whole)
    for kind in ("model", "optimizer"):
        a, b = (load_file(run / f"checkpoint-{last}" / f"{kind}.safetensors") for run in (whole, resumed))
        assert a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a)


def test_one_rank_goes_on_with_what_sharded_ranks_saved(workdir, both_ranks):
    """The checkpoint holds whole tensors: how many ranks wrote it, and how, is not seen from it."""
    run, copy = workdir / "runs" / "sharded-toremi", workdir / "runs" / "alone-toremi"
    copy_stopped(run, copy)
    settings = config(workdir, "toremi", "alone", checkpoint_every=8, keep_checkpoints=None, eval_every=8)
    run_worker(settings, resume=True)
    a, b = parameters(run), parameters(copy)
    assert all(a[key].allclose(b[key], atol=2e-3) for key in a)


def test_the_first_fsdp_is_refused(both_ranks):
    assert all("REFUSED FSDP version 1 is not supported; set `fsdp_version: 2`" in output for output in both_ranks)
