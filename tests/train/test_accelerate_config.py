"""A config file of accelerate passes through the command to its launcher."""

from __future__ import annotations

import json

import pytest

from tests import shell
from tests.train.smallrun import ARGUMENTS, weights
from tests.train.test_policies import free_ports
from toremi_cli.errors import UsageError
from toremi_cli.train.check_config import check_config
from toremi_cli.train.config import TrainConfig

MACHINE = """\
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 2
num_processes: 2
machine_rank: {rank}
main_process_ip: 127.0.0.1
main_process_port: {port}
mixed_precision: fp16
use_cpu: false
"""
"""One of two machines with a process each. Such are MULTI_GPU to accelerate with or without GPUs: for MULTI_CPU it
wants mpirun."""


def test_a_config_file_decides_the_ranks_of_two_machines(uninterrupted, workdir, tmp_path):
    port = free_ports(1)[0]
    machines = []
    for rank in (1, 0):  # each has a launcher of its own, which ends by what its own rank says
        (tmp_path / f"{rank}.yaml").write_text(MACHINE.format(rank=rank, port=port))
        machines.append(start(workdir, "--name", "by-config", "--accelerate-config", tmp_path / f"{rank}.yaml"))
    outputs = [machine.communicate() for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    (other_out, other_err), (out, err) = outputs
    assert (other_out, other_err) == ("", "")
    assert "2 x cpu" in err
    assert json.loads(out)["step"] == 24
    for a, b in zip(weights(workdir / "runs" / "by-config"), weights(uninterrupted), strict=True):
        assert (a["step"], a["topic"], a["num_samples"]) == (b["step"], b["topic"], b["num_samples"])
        assert a["weight"] == pytest.approx(b["weight"], rel=1e-4)


def start(workdir, *arguments):
    command = ["pretrain", "-w", workdir, "--model", workdir / "model.json", *ARGUMENTS, "--gpus", "0", "--json"]
    return shell.start(*command, *arguments)


@pytest.mark.parametrize(
    ("flags", "part"),
    [({"gpus": 4}, "--gpus 4: .*num_processes: 2"), ({"processes": 3}, "--processes 3: .*leave --processes out")],
)
def test_a_config_file_leaves_nothing_for_flags_to_say(tmp_path, flags, part):
    (tmp_path / "two.yaml").write_text(MACHINE.format(rank=0, port=0))
    with pytest.raises(UsageError, match=part):
        check_config(TrainConfig(accelerate_config=str(tmp_path / "two.yaml"), **flags))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "no such file"),
        ("a: [", "cannot be read as YAML"),
        ("- 1", "no config of accelerate"),
        ("compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED", "DEEPSPEED is not supported"),
    ],
)
def test_a_file_that_is_no_config(tmp_path, content, part):
    path = tmp_path / "nothing.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=part) as problem:
        check_config(TrainConfig(accelerate_config=str(path)))
    assert str(path) in str(problem.value)
    assert "\n" not in str(problem.value)
