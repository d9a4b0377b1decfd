"""A config file of accelerate passes through the command to its launcher."""

from __future__ import annotations

import json

import pytest

from tests.train.smallrun import weights
from toremi_cli.errors import UsageError
from toremi_cli.train.config import TrainConfig, check_config

# Several processes on one machine are MULTI_GPU to accelerate, with or without one: for MULTI_CPU it wants mpirun.
TWO_RANKS = """\
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
num_processes: 2
machine_rank: 0
main_process_port: 0
mixed_precision: 'no'
use_cpu: false
"""


def test_a_config_file_decides_the_ranks(uninterrupted, workdir, pretrain, tmp_path):
    (tmp_path / "two.yaml").write_text(TWO_RANKS)
    process = pretrain("--name", "by-config", "--accelerate-config", tmp_path / "two.yaml", "--gpus", "0", "--json")
    assert process.returncode == 0, process.stderr
    assert "2 x cpu" in process.stderr
    assert json.loads(process.stdout)["step"] == 24
    for a, b in zip(weights(workdir / "runs" / "by-config"), weights(uninterrupted), strict=True):
        assert (a["step"], a["topic"], a["num_samples"]) == (b["step"], b["topic"], b["num_samples"])
        assert a["weight"] == pytest.approx(b["weight"], rel=1e-4)


@pytest.mark.parametrize(
    ("content", "part"),
    [(None, "no such file"), ("a: [", "cannot be read as YAML"), ("- 1", "no config of accelerate")],
)
def test_a_file_that_is_no_config(tmp_path, content, part):
    path = tmp_path / "nothing.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=part) as problem:
        check_config(TrainConfig(accelerate_config=str(path)))
    assert str(path) in str(problem.value)
    assert "\n" not in str(problem.value)
