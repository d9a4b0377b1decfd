"""The accelerator: which device, which precision, which process group."""

from __future__ import annotations

import importlib.util
import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import parse_flag_from_env

from toremi_cli.errors import UsageError
from toremi_cli.lm.memory import reuse_freed_memory
from toremi_cli.train.accelerate_config import keep_what_a_launcher_says
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.sharding import set_up_sharding


def make_accelerator(config: TrainConfig, folder: Path) -> Accelerator:
    """The accelerator of this rank; joins the process group. Trackers will write below the run's `folder`.

    Raises:
        UsageError: a precision that the device lacks, a tracker that is not installed, the first FSDP,
            another training loop than ours.
    """
    use_cpu = config.gpus == 0 or not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    if config.precision == "tf32" and use_cpu:
        raise UsageError("--precision tf32: GPUs alone have it; use --precision fp32")
    if config.log_with and importlib.util.find_spec(config.log_with) is None:
        raise UsageError(f"--log-with {config.log_with}: not installed; pip install {config.log_with}")
    keep_what_a_launcher_says(os.environ)
    if use_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    use_bf16 = uses_bf16(config.precision, use_cpu)
    if use_cpu:
        reuse_freed_memory()
    else:
        # "high" is TF32, 10 bits of the factors; it also acts on what autocast leaves in float32.
        torch.set_float32_matmul_precision("highest" if config.precision == "fp32" else "high")
    accelerator = Accelerator(
        cpu=use_cpu,
        mixed_precision="bf16" if use_bf16 else "no",
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=timedelta(minutes=config.rank_timeout)),
        ],
        log_with=config.log_with,
        project_dir=str(folder),
    )
    set_up_sharding(accelerator)
    return accelerator


def uses_bf16(precision: str, use_cpu: bool) -> bool:
    """Whether a run computes in bf16: where asked for, or, by `auto`, where a GPU has it.

    Raises:
        UsageError: it is asked for and this GPU cannot even emulate it.
    """
    if precision != "auto":
        if precision == "bf16" and not use_cpu and not torch.cuda.is_bf16_supported():
            raise UsageError("--precision bf16: this GPU has no bf16; use --precision fp32")
        return precision == "bf16"
    # Older GPUs (V100, T4) emulate it, without tensor cores: nothing is gained by it there.
    return not use_cpu and torch.cuda.is_bf16_supported(including_emulation=False)


def gpu_memory(device: torch.device) -> int:
    """Bytes of a GPU, all of it: what is free changes, and a run that goes on has to come to the same micro-steps.

    0 where there is none.
    """
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def smallest_gpu_memory(device: torch.device) -> int:
    """Bytes of the smallest GPU among those of all ranks, which have to come to the same micro-steps; 0 for CPUs."""
    memory = torch.tensor([gpu_memory(device)], dtype=torch.int64, device=device)
    if dist.is_initialized():
        dist.all_reduce(memory, dist.ReduceOp.MIN)
    return int(memory)
