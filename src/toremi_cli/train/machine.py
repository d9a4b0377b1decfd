"""What this machine offers a run: GPUs that torch can use, and CPU cores."""

from __future__ import annotations

import os
from pathlib import Path

from toremi_cli import console
from toremi_cli.engine import default_workers
from toremi_cli.errors import UsageError, reason
from toremi_cli.train.accelerate_config import trains_on_cpu
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.ranks import is_first

DEVICES = Path("/dev")
HIDING = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""Variables by which a user or a container hides GPUs."""


def num_gpus() -> int:
    """GPUs of this machine that torch can use; torch is asked only where there may be one.

    Raises:
        UsageError: NVIDIA GPUs that torch cannot use: training would crawl along on the CPU, without a word.
    """
    nvidia = any(path.name.removeprefix("nvidia").isdigit() for path in DEVICES.glob("nvidia*"))
    if not nvidia and not any((DEVICES / name).exists() for name in ("kfd", "dxg")):  # AMD's; Windows' for Linux
        return 0
    import torch

    if torch.cuda.is_available():
        return torch.cuda.device_count()
    if nvidia and not any(os.environ.get(name) in ("", "-1", "none", "void") for name in HIDING):
        raise UsageError(
            f"this machine has NVIDIA GPUs, but torch {torch.__version__} cannot use them ({_what_stops_torch()}); "
            "install a torch that can, or train on the CPU with --gpus 0"
        )
    return 0


def _what_stops_torch() -> str:
    import torch

    if not torch.backends.cuda.is_built():
        return "it was built without CUDA"
    try:
        torch.cuda.init()
    except Exception as problem:
        return reason(problem)
    return "it finds none"


def resolve_devices(config: TrainConfig) -> tuple[int, int]:
    """(GPUs, processes) that a run uses on this machine.

    Raises:
        UsageError: more GPUs than there are, GPUs that torch cannot use, processes asked for beside GPUs, or more of
            them than CPU cores.
    """
    on_cpu = config.gpus == 0 or trains_on_cpu(config.accelerate_config)
    found = 0 if on_cpu else num_gpus()
    if config.gpus is not None and config.gpus > found:
        raise UsageError(
            f"--gpus {config.gpus}: this machine has {found}; use --gpus {found}"
            + ("" if found else " --processes N to train on the CPU")
        )
    gpus = found if config.gpus is None else config.gpus
    if gpus and config.processes > 1:
        raise UsageError(f"--processes {config.processes}: with GPUs, each gets one process; use --gpus or --gpus 0")
    cores = default_workers()
    if not gpus and config.processes > cores:
        raise UsageError(f"--processes {config.processes}: this machine has {cores} CPU cores; use --processes {cores}")
    return gpus, gpus or config.processes


def check_launched(config: TrainConfig) -> None:
    """Refuse flags that say otherwise than the launcher that started this rank.

    Raises:
        UsageError: another number of GPUs or processes than ranks on this machine, GPUs that torch cannot use.
    """
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    for flag, number, given in (
        ("--gpus", config.gpus, bool(config.gpus)),
        ("--processes", config.processes, config.processes > 1),
    ):
        if given and ranks and number != ranks:
            raise UsageError(f"{flag} {number}: {ranks} ranks were started on this machine; leave {flag} out")
    found = num_gpus() if config.gpus != 0 else 0
    if found > ranks > 0 and is_first():
        console.warn(
            f"{ranks} rank{'s' if ranks > 1 else ''} on a machine with {found} GPUs: the others stand idle; start a "
            "rank for each"
        )
