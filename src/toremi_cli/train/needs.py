"""What a run needs of a machine, and whether it is there: memory of each process, and disk for checkpoints."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

from toremi_cli.errors import TrainingError
from toremi_cli.train.config import TrainConfig

CHECKPOINT_BYTES_PER_PARAMETER = 12
"""float32 parameter and AdamW's two moments."""
GIB = 2**30
NO_MEMORY = (
    *("can't allocate memory", "CUDA out of memory", "CUDA error: out of memory"),
    *("_STATUS_ALLOC_FAILED", "std::bad_alloc"),
)
"""What torch's allocators say of it, also through the compiler; CUDA itself; cuBLAS and cuDNN; C++."""


def needs_of(
    config: TrainConfig, num_parameters: int, max_steps: int, process_bytes: float, processes: int, gpu_memory: int
) -> dict[str, Any]:
    """What a run needs and what there is, in GiB.

    Args:
        config: of the run.
        num_parameters: of the model.
        max_steps: of the run.
        process_bytes: memory of one process on its device.
        processes: on this machine.
        gpu_memory: bytes of each process' GPU; 0 on the CPU, whose memory they share.
    """
    written = -(-max_steps // config.checkpoint_every)
    kept = min(written, (config.keep_checkpoints or written) + 1)  # one more while it is written
    memory = gpu_memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // processes
    return {
        "memory_gib_per_process": process_bytes / GIB,
        "memory_gib_available": memory / GIB,
        "disk_gib": kept * num_parameters * CHECKPOINT_BYTES_PER_PARAMETER / GIB,
        "disk_gib_free": shutil.disk_usage(_existing(Path(config.workdir).resolve())).free / GIB,
    }


def refuse_what_cannot_fit(plan: dict[str, Any], config: TrainConfig) -> None:
    """Refuse a run that needs more than there is, by `needs_of`.

    Raises:
        TrainingError: names what is short, and the flags that need less.
    """
    # A config of accelerate may shard the model, or name other machines than this one.
    if plan["memory_gib_per_process"] > plan["memory_gib_available"] and not config.accelerate_config:
        raise TrainingError(
            f"--model {config.model}: a process needs {plan['memory_gib_per_process']:,.1f} GiB of memory and has "
            f"{plan['memory_gib_available']:,.1f}; use {less_memory(config)}, or a smaller model"
        )
    if plan["disk_gib"] > plan["disk_gib_free"]:
        raise TrainingError(
            f"{config.workdir}: checkpoints need {plan['disk_gib']:,.1f} GiB of disk, {plan['disk_gib_free']:,.1f} are "
            "free; keep fewer with --keep-checkpoints, or name another disk with --workdir"
        )


def less_memory(config: TrainConfig, fewer_rows: bool = True) -> str:
    """The flags that make a run need less memory, those left out which it has already.

    `fewer_rows`: whether a micro-step may have fewer rows than it has.
    """
    flags = []
    if not config.chunked_loss:
        flags.append("--chunked-loss")
    if not config.gradient_checkpointing:
        flags.append("--gradient-checkpointing")
    if fewer_rows and config.micro_batch != 1:
        size = f"below {config.micro_batch}" if config.micro_batch else "ROWS"
        flags.append(f"--micro-batch {size} (rows of a micro-step)")
    return " or ".join(flags or ["FSDP (--accelerate-config), which shares the model between GPUs"])


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether a device or the machine had no memory left; CUDA's allocator alone has an error type of its own."""
    return (
        type(problem).__name__ == "OutOfMemoryError"
        or isinstance(problem, MemoryError)
        or (isinstance(problem, OSError) and problem.errno == errno.ENOMEM)
        or (isinstance(problem, RuntimeError) and any(words in str(problem) for words in NO_MEMORY))
    )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
