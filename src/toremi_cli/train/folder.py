"""What a run's folder looks like when a run begins: fresh, or cut back to its last whole checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator

from toremi_cli import __version__
from toremi_cli.errors import TrainingError
from toremi_cli.provenance import digest, provenance_of
from toremi_cli.runs.record import RUN_FILE, read_run, update_run
from toremi_cli.schemas import METRICS, RUN_WEIGHTS, Table
from toremi_cli.tables import write_json
from toremi_cli.train import checkpoint as ckpt
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.growing_table import GrowingTable, cut_back
from toremi_cli.train.tokens import TokenCache


def growing_table(folder: Path, table: Table, config: TrainConfig, cache: TokenCache) -> GrowingTable:
    """One of the tables that the run adds rows to."""
    provenance = provenance_of(table, "toremi pretrain", config.to_json(), {"tokens": cache.fingerprint})
    return GrowingTable(folder / table.name, table, provenance)


def begin_folder(
    folder: Path, config: TrainConfig, accelerator: Accelerator, cache: TokenCache, resume: bool
) -> Path | None:
    """Prepare the folder on the first rank; return the checkpoint to resume from, the same on all ranks.

    Raises:
        TrainingError: the corpus has changed since the run began.
    """
    step = torch.full((1,), -1, dtype=torch.int64, device=accelerator.device)
    if accelerator.is_main_process:
        step[0] = _begin(folder, config, cache, resume)
    if dist.is_initialized():
        dist.broadcast(step, 0)
    last = int(step[0])
    return folder / f"checkpoint-{last}" if last >= 0 else None


def _begin(folder: Path, config: TrainConfig, cache: TokenCache, resume: bool) -> int:
    """Step of the checkpoint to resume from, -1 for none."""
    record = read_run(folder) if resume else None
    found = ckpt.resumable(folder) if record else []
    if record and record["data"] != cache.fingerprint:
        raise TrainingError(
            f"{folder / RUN_FILE}: the annotated corpus has changed since this run began; start another with "
            "--name, or over again with --overwrite"
        )
    ckpt.remove_leftovers(folder)
    last = found[-1].step if found else -1
    for table in (RUN_WEIGHTS, METRICS):
        growing = growing_table(folder, table, config, cache)
        cut_back(growing.folder, table, growing.provenance, last)
    if found:
        update_run(folder, status="running", config=config.to_json())
    else:
        write_json(folder / RUN_FILE, _record(config, cache))
    return last


def _record(config: TrainConfig, cache: TokenCache) -> dict[str, Any]:
    """What `run.json` holds when a run begins."""
    values = config.to_json()
    return {
        "status": "running",
        "config": values,
        "data": cache.fingerprint,
        "annotated": cache.meta["annotated"],
        "fingerprint": digest(values, cache.fingerprint),
        "toremi_version": __version__,
        "torch_version": torch.__version__,
    }
