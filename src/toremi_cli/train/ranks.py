"""Which rank of a run this process is, where a launcher started it: torchrun, `accelerate launch`, srun."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping

from toremi_cli.errors import UsageError

FIRST_PORT, NUM_PORTS = 15_000, 15_000
"""Where the ranks of a Slurm step meet: below the ports that Linux hands out by itself (32768 and up)."""


def is_first() -> bool:
    """Whether this process is rank 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def is_first_here() -> bool:
    """Whether this process is the first rank of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def join_launched(environ: MutableMapping[str, str], look_at_slurm: bool = True) -> bool:
    """Whether a launcher made this process a rank of a run; then `environ` holds all that torch wants to know.

    torchrun sets every variable. A script of one's own may leave some out, and srun sets none of torch's: what is
    missing is taken from the variables that srun gives the tasks of a step. (A batch script has SLURM_PROCID and
    SLURM_NTASKS, too, without being one of these tasks; it has no SLURM_STEP_NUM_TASKS.)

    Raises:
        UsageError: some of the variables are set, and the others can't be known.
    """
    by_torch = environ.get("RANK", "").isdigit() and environ.get("WORLD_SIZE", "").isdigit()
    by_slurm = int(environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    if not by_torch and not (by_slurm and look_at_slurm):
        return False
    if by_slurm:
        for name, value in _slurm_ranks(environ).items():
            environ.setdefault(name, value)
    missing = [name for name in ("LOCAL_RANK", "MASTER_ADDR") if not environ.get(name)]
    if missing and int(environ["WORLD_SIZE"]) == 1:
        return False  # the only process, which needs nobody to tell it
    if missing:
        raise UsageError(
            f"RANK={environ['RANK']} and WORLD_SIZE={environ['WORLD_SIZE']} are set, but not {' and '.join(missing)}: "
            "start the ranks with torchrun or srun, or set LOCAL_RANK (a rank's number on its machine), MASTER_ADDR "
            "(the machine of rank 0) and MASTER_PORT, too"
        )
    environ.setdefault("MASTER_PORT", "29500")  # torch's own
    return True


def _slurm_ranks(environ: MutableMapping[str, str]) -> dict[str, str]:
    """torch's variables for a task of a Slurm step."""
    step = int(environ["SLURM_JOB_ID"]) * 31 + int(environ["SLURM_STEP_ID"])
    tasks_per_node = tasks_of_nodes(environ["SLURM_STEP_TASKS_PER_NODE"])
    found = {
        "RANK": environ["SLURM_PROCID"],
        "WORLD_SIZE": environ["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environ["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(tasks_per_node[int(environ["SLURM_NODEID"])]),
        "MASTER_ADDR": first_host(environ["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": str(FIRST_PORT + step % NUM_PORTS),
    }
    if "SLURM_CPUS_PER_TASK" in environ:
        found["OMP_NUM_THREADS"] = environ["SLURM_CPUS_PER_TASK"]
    return found


def first_host(nodes: str) -> str:
    """The first of Slurm's list of nodes: `gpu[003-006,9],cpu1` is `gpu003`."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes).partition(",")[0]


def tasks_of_nodes(text: str) -> list[int]:
    """How many tasks each node of a Slurm step has: `2(x3),1` is 2, 2, 2 and 1."""
    found = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        found += [int(count)] * int(times.rstrip(")") or 1)
    return found
