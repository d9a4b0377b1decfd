"""Two ranks that share parameters, gradients and optimizer state train what one rank trains, and resume exactly."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch.distributed.checkpoint import HuggingFaceStorageReader
from transformers import AutoModelForCausalLM

from tests.shell import assert_one_line_error, call, start
from tests.train.sharded_ranks import (
    VARIANTS,
    copy_stopped,
    keep_what_is_saved_and_restored,
    sharded,
    variant,
)
from tests.train.smallrun import assert_alike, metrics, weights
from toremi_cli.errors import TrainingError
from toremi_cli.runs.record import FINISHED, read_run
from toremi_cli.train import loop, state
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.model import load_checkpoint_model
from toremi_cli.train.shards import Shards
from toremi_cli.train.worker import open_run_cache, run_worker


@pytest.fixture(scope="module")
def both_ranks(workdir, one_rank):
    """The runs of `tests.train.sharded_ranks`; what the ranks printed, until the second one died."""
    open_run_cache(replace(sharded(workdir, "any"), topics="fine"), build=True)
    for rank in range(2):
        shutil.copytree(workdir, workdir.with_name(f"machine-{rank}"), ignore=shutil.ignore_patterns("runs"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [_start(workdir, rank, port) for rank in range(2)]
    printed = []
    for process, code in zip(ranks, (0, -signal.SIGKILL), strict=True):
        out, err = process.communicate(timeout=1800)
        assert process.returncode == code, err
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
    return start(workdir, module="tests.train.sharded_ranks", **ranks, MASTER_PORT=port)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_measured_is_the_same_in_any_precision(workdir, both_ranks, name):
    """Losses are summed in float32 or more: in bf16 a topic's would be off by a tenth."""
    plain = {"name": f"{name}-alone", "micro_batch": None, "gradient_checkpointing": False, "chunked_loss": False}
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
    run_worker(replace(sharded(workdir, "single"), micro_batch=None), resume=False)
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
    assert_equal(parameters(whole, last), parameters(resumed, last))
    assert_equal(in_shards(whole / f"checkpoint-{last}"), in_shards(resumed / f"checkpoint-{last}"))


def in_shards(checkpoint):
    """All tensors of two ranks' shards, whole."""
    shards = Shards(checkpoint, 2)
    return {name: shards.fill(name, torch.empty(shape)) for name, shape in shards.shapes.items()}


def assert_equal(some, others):
    assert some.keys() == others.keys() and some
    assert all(some[name].equal(others[name]) for name in some)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_shards_hold_what_the_ranks_have_bit_for_bit_and_torch_reads_them(workdir, both_ranks):
    run = workdir / "runs" / "sharded-toremi"
    saved, checkpoint = load_file(run / "saved.safetensors"), run / "checkpoint-8"
    found = {name: tensor for name, tensor in in_shards(checkpoint).items() if not name.startswith("accumulators/")}
    assert_equal(saved, found)
    by_torch = {name: torch.empty_like(tensor) for name, tensor in saved.items()}
    torch.distributed.checkpoint.load(by_torch, storage_reader=HuggingFaceStorageReader(str(checkpoint)), no_dist=True)
    assert_equal(saved, by_torch)
    assert_equal(saved, load_file(workdir / "runs" / "resumed-toremi" / "restored.safetensors"))
    in_thread = workdir / "runs" / "efficient-toremi" / "checkpoint-8"
    assert_equal(in_shards(checkpoint), in_shards(in_thread))


def test_one_rank_goes_on_with_what_sharded_ranks_saved_and_they_with_its(workdir, both_ranks, one_rank, monkeypatch):
    monkeypatch.setattr(state, "restore", state.restore)
    monkeypatch.setattr(loop, "save", loop.save)
    keep_what_is_saved_and_restored()
    run, copy = workdir / "runs" / "sharded-toremi", workdir / "runs" / "alone-toremi"
    copy_stopped(run, copy)
    run_worker(replace(sharded(workdir, "alone"), micro_batch=None), resume=True)
    assert_equal(load_file(run / "saved.safetensors"), load_file(copy / "restored.safetensors"))
    a, b = parameters(run), parameters(copy)
    assert all(a[key].allclose(b[key], atol=2e-3) for key in a)

    found = load_file(workdir / "runs" / "from-one-toremi" / "restored.safetensors")
    alone = load_file(one_rank / "checkpoint-8" / "shard-00000-of-00001.safetensors")
    alone |= {f"model/{name}": tensor for name, tensor in parameters(one_rank, 8).items()}
    assert all(tensor.equal(alone[name]) for name, tensor in found.items()) and len(found) > 40
    assert_alike(one_rank, workdir / "runs" / "from-one-toremi")


def test_what_reads_models_says_how_shards_become_one(workdir, both_ranks):
    copy = workdir / "runs" / "midway-toremi"
    copy_stopped(workdir / "runs" / "sharded-toremi", copy)
    how = f"checkpoint-8: its model is in the ranks' shards: `toremi export {copy} --to hf` puts it together"
    assert_one_line_error(call("eval", "-w", workdir, "midway-toremi"), how)
    with pytest.raises(TrainingError, match=re.escape(how)):
        load_checkpoint_model(copy / "checkpoint-8")
    found = call("export", "midway-toremi", "-w", workdir, "--to", "hf")
    assert json.loads(found.stdout)["models"] == [str(copy / "checkpoint-8")], found.stderr
    model = AutoModelForCausalLM.from_pretrained(copy / "checkpoint-8")
    saved = load_file(copy / "saved.safetensors")
    assert all(tensor.equal(saved[f"model/{name}"]) for name, tensor in model.named_parameters())
    (copy / "checkpoint-8" / "model.safetensors").unlink()
    shard = copy / "checkpoint-8" / "shard-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert_one_line_error(call("export", "midway-toremi", "-w", workdir, "--to", "hf"), f"{shard}: damaged")


def test_machines_without_a_common_folder_each_keep_their_shards(workdir, both_ranks):
    """And one goes on alone where their folders are brought together: after a kill in the middle of writing, too."""
    machines = [workdir.with_name(f"machine-{rank}") / "runs" for rank in range(2)]
    for rank, runs in enumerate(machines):
        names = {path.name for path in (runs / "apart-toremi" / "checkpoint-8").glob("*.*")}
        assert names >= {f"shard-{rank:05}-of-00002.safetensors", "config.json", "tokenizer.json"}
        assert not names & {"model.safetensors", f"shard-{1 - rank:05}-of-00002.safetensors"}
        assert read_run(runs / "apart-toremi")["status"] == FINISHED
        assert [path.name for path in (runs / "dying-toremi").glob("checkpoint-*")] == ["checkpoint-4"]
    ends = [AutoModelForCausalLM.from_pretrained(runs / "apart-toremi" / "checkpoint-12") for runs in machines]
    assert_equal(*[dict(model.named_parameters()) for model in ends])

    assert_equal(parameters(machines[0] / "apart-toremi", 12), parameters(machines[0] / "behind-toremi", 12))
    assert metrics(machines[0] / "apart-toremi") == metrics(machines[0] / "behind-toremi")
    for printed in both_ranks:
        assert re.search(r"NONE .*behind-toremi: none of checkpoints 4, 8, 12 is on every machine", printed)

    assert "DIED" in both_ranks[0]
    run = machines[1] / "dying-toremi"
    config = replace(TrainConfig.from_json(read_run(run)["config"]), micro_batch=None)
    missing = run / "checkpoint-4" / "shard-00000-of-00002.safetensors"
    with pytest.raises(TrainingError, match=f"{missing}: missing, the shard of rank 0; .* bring these together"):
        run_worker(config, resume=True)
    shutil.copyfile(machines[0] / "dying-toremi" / "checkpoint-4" / missing.name, missing)
    run_worker(config, resume=True)
    alone, other = parameters(run, 12), parameters(machines[0] / "apart-toremi", 12)
    assert all(alone[key].allclose(other[key], atol=2e-3) for key in other)
    assert not list(run.glob(".*"))


def test_what_one_rank_could_not_write_none_has(workdir, both_ranks):
    """All say the same of it, with the next checkpoint, since a thread wrote."""
    for rank, printed in enumerate(both_ranks):
        run = workdir.with_name(f"machine-{rank}") / "runs" / "full-toremi"
        assert re.search(r"FULL .*machine-1/\S+/checkpoint-4: cannot write the checkpoint .*earlier .* intact", printed)
        assert not [path for path in run.iterdir() if "checkpoint" in path.name]


def test_the_first_fsdp_is_refused(both_ranks):
    assert all("REFUSED FSDP version 1 is not supported; set `fsdp_version: 2`" in output for output in both_ranks)
