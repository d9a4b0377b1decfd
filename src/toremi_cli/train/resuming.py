"""Where a run goes on: at its last whole checkpoint, or at its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator

from toremi_cli.errors import TrainingError
from toremi_cli.runs.record import RUN_FILE, read_run
from toremi_cli.train import checkpoint as ckpt
from toremi_cli.train.order import ORDER_VERSION
from toremi_cli.train.tokens import TokenCache


def find_checkpoint(
    folder: Path, accelerator: Accelerator, cache: TokenCache, resume: bool, decay_from: str | None = None
) -> Path | None:
    """The checkpoint to resume from, the same on all ranks; None to begin. Nothing is written.

    A run that has none yet begins at that of another run which `decay_from` names, if any.

    Raises:
        TrainingError: the corpus, or the order in which it is read, has changed since the run began.
    """
    step = torch.full((1,), -1, dtype=torch.int64, device=accelerator.device)
    if accelerator.is_main_process and resume:
        step[0] = _last_step(folder, cache)
    if dist.is_initialized():
        dist.broadcast(step, 0)
    last = int(step[0])
    if last >= 0:
        return folder / f"checkpoint-{last}"
    if not decay_from:
        return None
    origin = folder.parent / decay_from
    _check_data(origin.parent, read_run(origin.parent) or {}, cache)
    return origin


def _last_step(folder: Path, cache: TokenCache) -> int:
    record = read_run(folder)
    if record is None:
        return -1
    _check_data(folder, record, cache)
    found = ckpt.resumable(folder)
    return found[-1].step if found else -1


def _check_data(folder: Path, record: Mapping[str, Any], cache: TokenCache) -> None:
    if record.get("order") != ORDER_VERSION:
        raise TrainingError(
            f"{folder / RUN_FILE}: begun by a toremi that read the samples in another order; start another with "
            "--name, or over again with --overwrite"
        )
    if record.get("data") != cache.fingerprint:
        raise TrainingError(
            f"{folder / RUN_FILE}: the annotated corpus has changed since this run began; start another with "
            "--name, or over again with --overwrite"
        )
