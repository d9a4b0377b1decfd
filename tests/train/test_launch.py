"""What surrounds a run reaches none of its ranks, and what happens to one of them ends all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import assert_one_line_error, start
from tests.train.smallrun import ARGUMENTS
from tests.train.test_policies import free_ports
from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.train import launch
from toremi_cli.train.accelerate_config import keep_what_a_launcher_says, without_launchers
from toremi_cli.train.config import TrainConfig

ROOT = Path(__file__).parents[2]
FAILURE = "RuntimeError: the card has fallen off the bus"


def test_a_rank_that_fails_ends_the_others(workdir):
    process = start_failing(workdir, "failing", "--processes", "2")
    out, err = process.communicate()
    assert_one_line_error(subprocess.CompletedProcess("", process.returncode, out, err), f"error: {FAILURE}")


def test_a_line_that_comes_in_two_reads_is_one(tmp_path):
    program = "import time; print('ValueError', end='', flush=True); time.sleep(1); print(': why')"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert launch._pass_on(child.stdout, child, tmp_path, show_all=False) == ["ValueError: why\n"]


def test_a_launcher_that_starts_nothing_is_one_line(tmp_path, capfd):
    config = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "no_such_key": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match=r"could not be started \(exit code 1: .*no_such_key"):
        launch.launch(TrainConfig(accelerate_config=str(tmp_path / "config.json"), gpus=0), resume=False)
    assert capfd.readouterr() == ("", "")


def test_ranks_that_others_launched_end_likewise(workdir):
    port = free_ports(1)[0]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), **place} for rank in (0, 1)]
    processes = [start_failing(workdir, "failing-ranks", **rank) for rank in ranks]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    for process, (out, err), part in zip(processes, outputs, ("another rank has ended", FAILURE), strict=True):
        assert_one_line_error(subprocess.CompletedProcess("", process.returncode, out, err), part)


def start_failing(workdir, name, *arguments, **ranks):
    command = ["pretrain", "-w", workdir, "--model", workdir / "model.json", *ARGUMENTS, "--name", name, "--gpus", "0"]
    return start(*command, *arguments, module="tests.train.failing_rank", PYTHONPATH=str(ROOT), **ranks)


def test_ranks_that_we_start_inherit_nothing_of_other_launchers():
    kept = {"PATH": "/bin", "NCCL_DEBUG": "INFO", "TORCH_LOGS": "dynamo", "CUDA_VISIBLE_DEVICES": "0"}
    others = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "FSDP_VERSION": "1", "RANK": "3", "PET_NNODES": "2"}
    assert without_launchers(kept | others | {"LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "1", "PMI_SIZE": "4"}) == kept


def test_a_launcher_says_where_a_rank_trains_and_not_how():
    places = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "ACCELERATE_USE_CPU": "true", "RANK": "1"}
    ways = {"ACCELERATE_MIXED_PRECISION": "fp16", "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}
    environ = places | ways | {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_TORCH_DEVICE": "meta"}
    keep_what_a_launcher_says(environ)
    assert environ == places
    with pytest.raises(UsageError, match="DEEPSPEED is not supported"):
        keep_what_a_launcher_says({"ACCELERATE_USE_DEEPSPEED": "true"})
