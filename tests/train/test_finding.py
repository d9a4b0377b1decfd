"""A run finds out by trying what fits and what is faster; ranks and later starts keep to it, and no number changes."""

from __future__ import annotations

import json
import shutil
import socket
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.backends.debugging import aot_eager

from tests import forks
from tests.shell import environment, start
from tests.train.both_ranks import assembled, config
from tests.train.limited import ROWS, settings
from tests.train.sharded_ranks import EXAMPLE
from tests.train.smallrun import metrics, weights
from toremi_cli.runs.record import read_run
from toremi_cli.train.announce import announce
from toremi_cli.train.checkpoint import optimizer_tensors
from toremi_cli.train.compiling import compare
from toremi_cli.train.documents import GROUPS
from toremi_cli.train.dry_run import describe_plan
from toremi_cli.train.finding import find_out
from toremi_cli.train.loop import train_step
from toremi_cli.train.trial import even_rows, fits, missing_state
from toremi_cli.train.worker import open_run_cache, run_worker

MIB = "600"
"""Less than a step's rows take at once."""
LONG = {"max_steps": 10**9, "interval": 10**8, "eval_every": 10**8}
"""What is worth compiling for."""


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes that the tests start: sums in another order are other sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def begun(workdir):
    return partial(assembled, workdir, "finding", sensitivity=False)


@pytest.fixture
def backend(monkeypatch):
    """Have torch.compile compile with a backend that doesn't take a minute."""

    def use(function):
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=function))
        torch.compiler.reset()

    yield use
    torch.compiler.reset()


def limited(workdir, name, mib=MIB, **more):
    """What a run printed that had so little memory."""
    open_run_cache(settings(workdir, name), build=True)
    command = ["-m", "tests.train.limited", str(workdir), name, mib, "0", json.dumps(more)]
    process = forks.run(command, None, environment(), 500, *forks.TRAINING)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def tight(workdir):
    """A run in a process that has no memory for all rows of a step at once."""
    assert limited(workdir, "tight") == ""
    return workdir / "runs" / "tight-uniform"


def test_rows_are_halved_until_they_fit(tight):
    record = read_run(tight)
    rows, all_rows = record["found"]["micro_batch"], ROWS["batch_size"]
    assert rows < all_rows and all_rows % rows == 0
    assert record["schedule"]["num_micro_steps"] == all_rows // rows


def test_a_run_that_goes_on_keeps_to_what_was_found(workdir, tight):
    """It has all the memory that it wants now, and would take other micro-steps."""
    copy = workdir / "runs" / "roomy-uniform"
    shutil.copytree(tight, copy)
    shutil.rmtree(copy / "checkpoint-4")
    run_worker(settings(workdir, "roomy"), resume=True)
    assert read_run(copy)["found"] == read_run(tight)["found"]
    assert (weights(copy), metrics(copy)) == (weights(tight), metrics(tight))
    a, b = (load_file(run / "checkpoint-4" / "model.safetensors") for run in (tight, copy))
    assert all(a[name].equal(b[name]) for name in a)
    shutil.rmtree(copy / "checkpoint-4")
    run_worker(settings(workdir, "roomy", micro_batch=512), resume=True)  # asked for by the user now
    assert read_run(copy)["found"]["micro_batch"] == 512


def test_what_is_compiled_has_to_fit_compiled(workdir):
    assert limited(workdir, "compiled", compile=True, max_steps=2) == ""
    found = read_run(workdir / "runs" / "compiled-uniform")["found"]
    assert found["compiled"] and found["micro_batch"] < ROWS["batch_size"]


def test_where_not_one_row_fits_a_line_names_the_flags(workdir):
    told = limited(workdir, "none", "1", chunked_loss=True)
    assert told.startswith(f"REFUSED --model {workdir / 'model.json'}: one row of 64 tokens has no room in a process")
    assert "use --gradient-checkpointing, or a smaller model" in told and told.count("\n") == 1
    assert not (workdir / "runs" / "none-uniform").exists()


def test_ranks_take_what_fits_everywhere(workdir):
    """The second rank alone has little memory."""
    open_run_cache(settings(workdir, "ranks"), build=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    more = json.dumps({"batch_size": 2 * ROWS["batch_size"], "max_steps": 2})
    ranks = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        start(workdir, "ranks", MIB, "1", more, module="tests.train.limited", RANK=rank, LOCAL_RANK=rank, **ranks)
        for rank in "01"
    ]
    for process in processes:
        out, err = process.communicate(timeout=500)
        assert (process.returncode, out) == (0, ""), err
    record = read_run(workdir / "runs" / "ranks-uniform")
    assert record["found"]["under"]["ranks"] == 2
    assert record["found"]["micro_batch"] < ROWS["batch_size"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_room_is_kept_for_what_the_optimizer_will_hold(begun, optimizer):
    run = begun(optimizer=optimizer)
    expected = sum(tensor.numel() for tensor in missing_state(run))
    train_step(run, run.builder.next_batch())
    made = sum(tensor.numel() for _, tensor in optimizer_tensors(run.model, run.optimizer) if tensor.dim())
    assert expected == made > 0
    assert missing_state(run) == [], "it is there now"


def test_rows_are_parted_evenly():
    assert [even_rows(12, most) for most in (12, 11, 6, 5, 4, 1, 99)] == [12, 6, 6, 4, 4, 1, 12]


@pytest.mark.parametrize("policy", ["toremi", "toremi-2"])
def test_numbers_do_not_depend_on_the_trying(begun, backend, workdir, policy):
    """Neither on rows that were tried, nor on a compiler that was slower."""
    backend(slow)
    found = []
    for tries in (False, True):
        run = begun(policy, model=str(workdir / "dropout.json"), **LONG)
        torch.manual_seed(5)
        if tries:
            assert fits(run, 2) and fits(run, 6)
            assert compare(run, 6)[0] is False
        find_out(run)
        assert all(parameter.grad is None for parameter in run.model.parameters())
        drawn = torch.rand(3)
        for _ in range(3):
            train_step(run, run.builder.next_batch())
            run.step += 1
        found.append([drawn, run.statistics.buffer, run.window.buffer, *run.model.parameters()])
    assert all(a.equal(b) for a, b in zip(*found, strict=True))


def slow(graph, inputs):
    """A backend whose code takes its time."""
    compiled = aot_eager(graph, inputs)

    def run(*arguments):
        time.sleep(0.2)
        return compiled(*arguments)

    return run


def test_the_faster_one_is_kept(begun, backend, capsys):
    for function, is_slow_as_it_is in ((aot_eager, True), (slow, False)):
        backend(function)
        run = begun(**LONG)
        if is_slow_as_it_is:
            run.model.base_model.register_forward_pre_hook(sleep_unless_compiled)
        compiled, eager_seconds, compiled_seconds = compare(run, 6)
        assert compiled is run.losses.is_compiled is is_slow_as_it_is
        assert (compiled_seconds < eager_seconds) is compiled
        train_step(run, run.builder.next_batch())
    assert capsys.readouterr().err.count("comparing with torch.compile, which takes about 5 seconds") == 2


def sleep_unless_compiled(module, arguments):
    if not torch.compiler.is_compiling():
        time.sleep(0.2)


def test_short_runs_are_not_compiled(begun, backend):
    backend(fails)
    compiled, eager_seconds, compiled_seconds = compare(begun(max_steps=2), 6)
    assert not compiled and eager_seconds > 0 and compiled_seconds is None


def test_documents_in_groups_are_not_compiled(begun, backend):
    """Each batch's have other shapes, for which it would be done again."""
    backend(fails)
    run = begun(mask_documents=True, **LONG)
    run.builder.documents = GROUPS
    assert compare(run, 6) == (False, None, None)
    assert fits(run, 6)


def fails(graph, inputs):
    """A backend that cannot compile."""
    raise RuntimeError("no kernel for that")


def test_without_a_compiler_the_run_goes_on(begun, backend, capsys):
    backend(fails)
    run = begun(**LONG)
    assert compare(run, 6)[0] is False
    assert "torch.compile failed (" in capsys.readouterr().err
    train_step(run, run.builder.next_batch())


def test_the_plan_of_a_gpu_says_what_is_left_to_find_out(workdir, monkeypatch):
    card = SimpleNamespace(total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)

    def planned(**more):
        run_config = config(workdir, "uniform", "planned", **more)
        plan = describe_plan(run_config, open_run_cache(run_config, build=True), 1, on_gpus=True)
        return plan["micro_batch"], plan["micro_steps"], plan["compiled"]

    at_the_start = "found at the start"
    assert planned() == (at_the_start,) * 3
    assert planned(micro_batch=4, compile=True) == (3, 2, True)
    assert planned(micro_batch=4) == (3, 2, at_the_start)
    assert planned(accelerate_config=str(EXAMPLE)) == (6, 1, False), "under FSDP nothing is tried"


def test_a_run_tells_what_it_has_found(begun, capsys):
    run = begun()
    find_out(run)
    run.found = replace(run.found, compiled=True, eager_seconds=0.25, compiled_seconds=0.125)
    run.part_steps(2)
    announce(run)
    told = " ".join(capsys.readouterr().err.split())
    assert "(6 rows x 32, 3 micro-steps of 2)" in told
    assert "torch.compile: a micro-step takes 0.125 seconds compiled, 0.25 as it is; training compiled" in told
