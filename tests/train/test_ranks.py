"""Which rank a process is, by the variables that a launcher leaves."""

from __future__ import annotations

import pytest

from toremi_cli.errors import UsageError
from toremi_cli.train.ranks import first_host, join_launched, tasks_of_nodes

# What Slurm 22.05 gives a task of `srun -N 2 -n 3`, those of its variables that tell of ranks.
TASK = {"SLURM_JOB_ID": "71", "SLURM_STEP_ID": "2", "SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NODEID": "1"}
TASK |= {"SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_STEP_NODELIST": "gpu[07-08]"}
BATCH_SCRIPT = {"SLURM_JOB_ID": "71", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "3"}
COMPLETE = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


def test_a_task_of_srun_is_a_rank():
    environ = dict(TASK)
    assert join_launched(environ)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    assert [environ[name] for name in names] == ["2", "0", "3", "1"]
    assert environ["MASTER_ADDR"] == "gpu07"
    others = TASK | {"SLURM_PROCID": "0", "SLURM_NODEID": "0"}
    assert join_launched(others)
    assert others["MASTER_PORT"] == environ["MASTER_PORT"]
    assert 1024 < int(environ["MASTER_PORT"]) < 32768


def test_srun_completes_what_a_script_of_ones_own_has_set():
    environ = TASK | {"RANK": "2", "WORLD_SIZE": "3", "MASTER_ADDR": "gpu07-ib"}
    assert join_launched(environ)
    assert (environ["LOCAL_RANK"], environ["MASTER_ADDR"]) == ("0", "gpu07-ib")


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, False),
        (BATCH_SCRIPT, False),  # it may start the run, but isn't one of the tasks
        (TASK | {"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"RANK": "0", "WORLD_SIZE": "1"}, False),
        ({"LOCAL_RANK": "0"}, False),
        (COMPLETE, True),
        (COMPLETE | {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, True),
    ],
)
def test_who_is_a_rank(environ, rank):
    assert join_launched(dict(environ)) is rank


def test_a_config_of_accelerate_starts_the_ranks_itself():
    assert not join_launched(dict(TASK), look_at_slurm=False)
    assert join_launched(dict(COMPLETE), look_at_slurm=False)


@pytest.mark.parametrize(("left_out", "part"), [("LOCAL_RANK", "not LOCAL_RANK"), ("MASTER_ADDR", "not MASTER_ADDR")])
def test_half_of_the_variables_is_refused(left_out, part):
    with pytest.raises(UsageError, match=part):
        join_launched({name: value for name, value in COMPLETE.items() if name != left_out})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("a", "a"),
        ("gpu[003-006,9],cpu1", "gpu003"),
        ("a,b[1-2]", "a"),
        ("r[1-2]n[4,6]", "r1n4"),
        ("n-1[0-2].x", "n-10.x"),
    ],
)
def test_the_first_host(nodes, first):
    assert first_host(nodes) == first


@pytest.mark.parametrize(("text", "counts"), [("2", [2]), ("2(x3),1", [2, 2, 2, 1])])
def test_tasks_of_nodes(text, counts):
    assert tasks_of_nodes(text) == counts
