"""A run's state as a checkpoint: what is saved, and how a run takes it up again."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from toremi_cli import console
from toremi_cli.runs.checkpoints import has_model
from toremi_cli.train import checkpoint as ckpt
from toremi_cli.train.announce import slow_checkpoint
from toremi_cli.train.exchange import of_all_ranks
from toremi_cli.train.found import Found
from toremi_cli.train.run import Training, put_in_force
from toremi_cli.train.sharding import gathered, is_sharded
from toremi_cli.train.shards import Part, Shards, part_of, shard_name


def save(run: Training, at_once: bool) -> None:
    """Write a checkpoint of the run as it stands, with `--async-checkpoint` and unless `at_once` beside what follows.

    Every rank calls it. The model is written as one where each rank holds it, and at the end of the run.

    Raises:
        TrainingError: the checkpoint, or the one before, could not be written.
    """
    shared = is_sharded(run.accelerator)
    model, optimizer = (dict(found) for found in (ckpt.model_tensors(run.model), _optimizer_tensors(run)))
    ckpt.check_tensors(run.folder, run.step, model, optimizer, run.shapes)
    parts = _named(ckpt.OPTIMIZER, optimizer) | _accumulators(run)
    model_state = None
    if not shared or run.step == run.schedule.max_steps:
        model_state = dict(gathered(model.items(), run.owns_folder))
    else:
        parts |= _named(ckpt.MODEL, model)
    rank, num_ranks = run.accelerator.process_index, run.accelerator.num_processes
    if run.is_main:
        run.weights_table.close_shard()
        run.metrics_table.close_shard()
    content = ckpt.Content(
        run=run.folder,
        step=run.step,
        shard=shard_name(rank, num_ranks) if shared else shard_name(0, 1),
        parts=parts if shared or run.owns_folder else None,
        model=run.model,
        model_state=model_state,
        state={
            "num_ranks": num_ranks,
            "num_shards": num_ranks if shared else 1,
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
            "found": asdict(run.found) if run.found else None,
        },
        tokenizer=run.tokenizer,
        keep=run.config.keep_checkpoints,
        owns_folder=run.owns_folder,
    )
    run.writer.write(content, at_once)
    slow = slow_checkpoint(run.writer.seconds, os.environ)
    if slow and "slow checkpoint" not in run.warned:
        run.warned.add("slow checkpoint")
        console.warn(slow)


def _optimizer_tensors(run: Training) -> Iterator[tuple[str, Tensor]]:
    return ckpt.optimizer_tensors(run.model, run.optimizer)


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Part]:
    return {prefix + name: part_of(tensor) for name, tensor in tensors.items()}


def _buffers(run: Training) -> dict[str, Tensor]:
    """Sums of the interval and of the log window under way, a rank's own."""
    return {"statistics": run.statistics.buffer, "window": run.window.buffer}


def _accumulators(run: Training) -> dict[str, Part]:
    """The sums as (number of ranks, *shape): this rank's row of them for its shard, all of them where there is one."""
    rank, num_ranks = run.accelerator.process_index, run.accelerator.num_processes
    if not is_sharded(run.accelerator):
        return _named(ckpt.ACCUMULATORS, {name: of_all_ranks(buffer) for name, buffer in _buffers(run).items()})
    return {
        ckpt.ACCUMULATORS + name: Part(buffer[None], (rank,) + (0,) * buffer.dim(), (num_ranks, *buffer.shape))
        for name, buffer in _buffers(run).items()
    }


def restore(run: Training, checkpoint: Path) -> None:
    """Put everything back to where the checkpoint was, but for parameters that are loaded already.

    Raises:
        TrainingError: a file is missing or damaged, or holds another model's state.
    """
    state = ckpt.load_state(checkpoint)
    num_ranks, num_shards = run.accelerator.num_processes, int(state["num_shards"])
    own = run.accelerator.process_index if is_sharded(run.accelerator) and num_shards == num_ranks else None
    shards = Shards(checkpoint, num_shards, own)
    if not has_model(checkpoint):
        ckpt.restore_model(run.model, shards)
    ckpt.restore_optimizer(run.model, run.optimizer, shards)
    for name, buffer in _buffers(run).items():
        key = ckpt.ACCUMULATORS + name
        if name == "window" and shards.shapes.get(key, buffer[None].shape)[1:] != buffer.shape:
            continue  # a decay that logs at other steps than its origin: its first window begins here
        _restore_sums(shards, key, buffer, int(state["num_ranks"]), run.accelerator)
        if name == "window":
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
    run.found = Found(**state["found"]) if state["found"] else None
    put_in_force(run)


def _restore_sums(shards: Shards, name: str, buffer: Tensor, saved_ranks: int, accelerator: Accelerator) -> None:
    """Put back a rank's own sums, or, with another number of ranks than saved, those of all on the first."""
    if saved_ranks == accelerator.num_processes:
        shards.fill_part(name, buffer[None], (accelerator.process_index,) + (0,) * buffer.dim())
    elif accelerator.is_main_process:
        buffer.copy_(shards.fill(name, buffer.new_empty(saved_ranks, *buffer.shape)).sum(dim=0))
    else:
        buffer.zero_()
