"""What is said to accelerate: a config file, the user's or ours, and the variables of the environment it reads.

Its launcher merges a default config of the home folder into whatever it isn't given, and its `Accelerator` takes
settings from variables that a shell may hold since another project. Neither may reach a run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from toremi_cli.errors import UsageError, reason

OTHER_TRAINERS = {"DEEPSPEED": "USE_DEEPSPEED", "MEGATRON_LM": "USE_MEGATRON_LM"}
"""Kinds of training that bring a loop of their own, and the variable (after ACCELERATE_) that asks for each."""
OF_ACCELERATE = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "FP8_")
OF_A_LAUNCHER = ("PET_", "TORCHELASTIC_", "OMPI_COMM_WORLD_", "PMI_", "MV2_COMM_WORLD_", "MPI_LOCAL")
"""PET_: torchrun takes its own options from there."""
OF_RANKS = frozenset(
    {
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK"),
        *("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "PYTHON_EXEC", "FORK_LAUNCHED"),
    }
)
OF_A_RANK = frozenset({"ACCELERATE_USE_CPU", "ACCELERATE_USE_FSDP", "ACCELERATE_CPU_AFFINITY", "ACCELERATE_LOG_LEVEL"})
"""What accelerate's launcher may say to a rank; precision, accumulation and compilation are this program's to say."""


def read_accelerate_config(path: str) -> dict[str, Any]:
    """A config file of accelerate.

    Raises:
        UsageError: its launcher could not read it, or it asks for a training loop that isn't ours.
    """
    import yaml  # what accelerate reads it with; JSON is YAML too

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"--accelerate-config {path}: no such file; `accelerate config` writes one") from None
    except (OSError, ValueError, yaml.YAMLError) as problem:
        raise UsageError(f"--accelerate-config {path}: cannot be read as YAML ({reason(problem)})") from None
    if not isinstance(found, dict) or "compute_environment" not in found:
        raise UsageError(f"--accelerate-config {path}: no config of accelerate: 'compute_environment' is not in it")
    kind = found.get("distributed_type")
    if kind in OTHER_TRAINERS or found.get("parallelism_config"):
        what = f"distributed_type {kind}" if kind in OTHER_TRAINERS else "parallelism_config"
        raise UsageError(f"--accelerate-config {path}: {what} is not supported; use MULTI_GPU, or FSDP of version 2")
    return found


def trains_on_cpu(path: str | None) -> bool:
    """Whether a config file, if there is one, keeps to the CPU."""
    return bool(path and read_accelerate_config(path).get("use_cpu"))


def shards_model(path: str | None) -> bool:
    """Whether a config file, if there is one, has GPUs share the model (FSDP)."""
    return bool(path and read_accelerate_config(path).get("distributed_type") == "FSDP")


def is_first_machine(path: str | None) -> bool:
    """Whether this machine is the first, or the only one, of those that a config file, if there is one, speaks of."""
    found = read_accelerate_config(path) if path else {}
    return int(found.get("num_machines") or 1) < 2 or int(found.get("machine_rank") or 0) == 0


def write_own_config(path: Path, num_processes: int) -> None:
    """A config for some processes on this machine, complete, so that accelerate looks for no other."""
    config = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",  # also for gloo on the CPU: for MULTI_CPU it wants mpirun
        "num_machines": 1,
        "num_processes": num_processes,
        "machine_rank": 0,
        "main_process_port": 0,
        "mixed_precision": "no",
        "use_cpu": False,
        "debug": False,
    }
    path.write_text(json.dumps(config), encoding="utf-8")


def without_launchers(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for ranks that we start: nothing in it of accelerate, of other launchers and their ranks."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(OF_ACCELERATE + OF_A_LAUNCHER) and name not in OF_RANKS
    }


def keep_what_a_launcher_says(environ: MutableMapping[str, str]) -> None:
    """Remove what would change a run behind its flags from the environment of a rank.

    Raises:
        UsageError: a training loop that isn't ours is asked for.
    """
    for kind, name in OTHER_TRAINERS.items():
        if environ.get(f"ACCELERATE_{name}", "").lower() in ("true", "1"):
            raise UsageError(f"ACCELERATE_{name} is set: {kind} is not supported; use FSDP of version 2")
    for name in list(environ):
        if name.startswith(OF_ACCELERATE) and not name.startswith("FSDP_") and name not in OF_A_RANK:
            del environ[name]
