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
from toremi_cli.train.exchange import from_first_rank
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
    steps = _steps(folder, cache) if accelerator.is_main_process and resume else []
    if dist.is_initialized():
        steps = _everywhere(folder, from_first_rank(steps, accelerator.device), accelerator.device)
    if steps:
        return folder / f"checkpoint-{steps[-1]}"
    if not decay_from:
        return None
    origin = folder.parent / decay_from
    _check_data(origin.parent, read_run(origin.parent) or {}, cache)
    return origin


def _steps(folder: Path, cache: TokenCache) -> list[int]:
    record = read_run(folder)
    if record is None:
        return []
    _check_data(folder, record, cache)
    return [checkpoint.step for checkpoint in ckpt.resumable(folder)]


def _everywhere(folder: Path, steps: list[int], device: torch.device) -> list[int]:
    """Those of the first rank's checkpoints that all ranks see; the last may have come to some machines alone.

    Raises:
        TrainingError: there are some, but none that all see.
    """
    seen = [(folder / f"checkpoint-{step}" / ckpt.STATE).is_file() for step in steps]
    by_all = torch.tensor(seen, dtype=torch.int32, device=device)
    dist.all_reduce(by_all, dist.ReduceOp.MIN)
    common = [step for step, is_seen in zip(steps, by_all.tolist(), strict=True) if is_seen]
    if steps and not common:
        raise TrainingError(
            f"{folder}: none of checkpoints {', '.join(map(str, steps))} is on every machine; bring the machines' "
            "folders of the run together (`rsync`), or use one --workdir that all see"
        )
    return common


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
