"""FSDP, which shards parameters and optimizer state over the ranks; putting tensors together again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from toremi_cli.errors import UsageError


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether each rank holds a part of the parameters and of the optimizer's state."""
    return str(accelerator.distributed_type).endswith("FSDP")


def fsdp_is_asked_for() -> bool:
    """Whether accelerate's launcher was told to shard, which it does where it finds GPUs."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def set_up_sharding(accelerator: Accelerator) -> None:
    """Have FSDP keep its sums exact: in bf16, parameters are cast for use, gradients are reduced in float32.

    Accelerate would reduce in bf16 too, and cast every unit's outputs to it, the losses among them.

    Raises:
        UsageError: the first FSDP, which hides the parameters in flat ones, whose state has no names; says what to set.
    """
    if not is_sharded(accelerator):
        return
    if not accelerator.is_fsdp2:
        raise UsageError("FSDP version 1 is not supported; set `fsdp_version: 2` in the config of accelerate")
    if accelerator.mixed_precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        accelerator.state.fsdp_plugin.mixed_precision_policy = policy


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together from all ranks' parts; every rank has to call this. Others are given back as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Iterable[tuple[str, Tensor]], keep: bool) -> Iterator[tuple[str, Tensor]]:
    """Names and whole tensors, one after the other so that a GPU never holds two; what was sharded is then on the CPU.

    Args:
        tensors: in the same order on every rank.
        keep: whether this rank wants them; one that does not has to take part all the same.
    """
    for name, tensor in tensors:
        together = whole(tensor.detach())
        if keep:
            yield name, together.cpu() if isinstance(tensor, DTensor) else together
