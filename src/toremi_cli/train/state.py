"""A run's state as a checkpoint: what is saved, and how a run takes it up again."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from toremi_cli import console
from toremi_cli.errors import TrainingError
from toremi_cli.train import checkpoint as ckpt
from toremi_cli.train.announce import slow_checkpoint
from toremi_cli.train.run import Training, put_in_force
from toremi_cli.train.sharding import gathered, is_sharded


def save(run: Training) -> None:
    """Write a checkpoint of the run as it stands; every rank calls it, the first writes."""
    began = time.monotonic()
    accumulators = {
        "statistics": _of_all_ranks(run.statistics.buffer),
        "window": _of_all_ranks(run.window.buffer),
    }
    model_state = dict(gathered(ckpt.model_tensors(run.model), run.is_main))
    optimizer = dict(gathered(ckpt.optimizer_tensors(run.model, run.optimizer), run.is_main))
    if not run.is_main:
        return
    run.weights_table.close_shard()
    run.metrics_table.close_shard()
    ckpt.save_checkpoint(
        run.folder,
        run.step,
        model=run.model,
        model_state=model_state,
        shapes=run.shapes,
        optimizer=optimizer,
        accumulators=accumulators,
        state={
            "tokens_seen": run.tokens_seen,
            "window_steps": run.window.count,
            "stream": run.stream_state,
            "policy": run.policy.state_dict(),
            "loss_scale": run.loss_scale,
            "switch": run.switch.state_dict(),
            "stage": run.stage,
            "unseen_intervals": run.unseen_intervals,
            "warned": sorted(run.warned),
            "holdout_loss": [x if math.isfinite(x) else None for x in run.holdout_loss.tolist()],
            "evaluation": run.last_evaluation,
            "train_loss": run.last_train_loss,
        },
        tokenizer=run.tokenizer,
        keep=run.config.keep_checkpoints,
    )
    slow = slow_checkpoint(time.monotonic() - began, os.environ)
    if slow and "slow checkpoint" not in run.warned:
        run.warned.add("slow checkpoint")
        console.warn(slow)


def restore(run: Training, checkpoint: Path) -> None:
    """Put everything but the parameters, which are loaded already, back to where the checkpoint was.

    Raises:
        TrainingError: a file is damaged, or holds another model's state.
    """
    state = ckpt.load_state(checkpoint)
    # Parts of what is sharded go to the device one by one: all of it might not fit there.
    device = torch.device("cpu") if is_sharded(run.accelerator) else run.device
    moments = ckpt.load_tensors(checkpoint, ckpt.OPTIMIZER, device)
    try:
        ckpt.restore_optimizer(run.model, run.optimizer, moments)
    except ValueError as problem:
        raise TrainingError(f"{checkpoint / ckpt.OPTIMIZER}: {problem}; delete {checkpoint} and resume") from None
    sums = ckpt.load_tensors(checkpoint, ckpt.ACCUMULATORS, run.device)
    run.statistics.buffer.copy_(_own_share(sums["statistics"], run.accelerator))
    run.window.buffer.copy_(_own_share(sums["window"], run.accelerator))
    run.window.count = int(state["window_steps"])
    run.stream_state = state["stream"]
    run.builder.stream.load_state_dict(run.stream_state)
    run.policy.load_state_dict(state["policy"])
    run.switch.load_state_dict(state["switch"])
    run.loss_scale, run.step, run.stage = float(state["loss_scale"]), int(state["step"]), int(state["stage"])
    run.unseen_intervals, run.warned = list(state["unseen_intervals"]), set(state["warned"])
    holdout_loss = [math.nan if x is None else x for x in state["holdout_loss"]]
    run.holdout_loss = torch.tensor(holdout_loss, dtype=torch.float64)
    run.last_evaluation, run.last_train_loss = state["evaluation"], float(state["train_loss"])
    put_in_force(run)


def _of_all_ranks(buffer: Tensor) -> Tensor:
    """(world size, *shape) the ranks' buffers."""
    if not dist.is_initialized():
        return buffer.unsqueeze(0)
    gathered = [torch.empty_like(buffer) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, buffer)
    return torch.stack(gathered)


def _own_share(buffers: Tensor, accelerator: Accelerator) -> Tensor:
    """A rank's own buffer, or, with another number of ranks than saved, all of them on the first."""
    if len(buffers) == accelerator.num_processes:
        return buffers[accelerator.process_index]
    return buffers.sum(dim=0) * float(accelerator.is_main_process)
