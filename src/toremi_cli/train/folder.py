"""A run's folder: it appears, or is cut back to its last checkpoint, once the model has taken its first step.

Whatever may keep a run from starting (a model that can't be built, too little memory, a kill) has shown by then, and
has left what was there before.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from toremi_cli import __version__
from toremi_cli.errors import TrainingError
from toremi_cli.files import atomic_file, atomic_folder, remove_temporaries_in, write_json
from toremi_cli.provenance import digest, provenance_of
from toremi_cli.runs.record import CONFIG_FILE, RUN_FILE, update_run
from toremi_cli.schemas import METRICS, RUN_WEIGHTS, Table
from toremi_cli.train import checkpoint as ckpt
from toremi_cli.train.growing_table import GrowingTable, cut_back
from toremi_cli.train.order import ORDER_VERSION
from toremi_cli.train.run import Training
from toremi_cli.train.tracking import start_tracker


def check_replaceable(folder: Path) -> None:
    """Refuse to put a run in the place of something else.

    Raises:
        TrainingError: what stands there is no run of ours.
    """
    if not folder.exists() or (folder / RUN_FILE).exists():
        return
    if folder.is_file() or any(not path.name.startswith(".") for path in folder.iterdir()):
        raise TrainingError(f"{folder}: not a run of toremi; will not delete it: name another run with --name")


def open_folder(run: Training, last_step: int, overwrite: bool) -> None:
    """Begin the run on disk, in place of an earlier one (`overwrite`), or go on after the checkpoint of `last_step`.

    Args:
        run: its tables are set; every rank calls it, the first that sees a folder writes there.
        last_step: step of the checkpoint that the run was restored from, -1 for none.
        overwrite: put the new run in the place of what is there, which is whole until then.
    """
    if run.owns_folder:
        if overwrite or not (run.folder / RUN_FILE).exists():
            check_replaceable(run.folder)
            with atomic_folder(run.folder) as folder:
                write_json(folder / RUN_FILE, _record(run))
                (folder / CONFIG_FILE).write_text(run.config.to_toml(), encoding="utf-8")
        else:
            ckpt.remove_leftovers(run.folder)
            for table in (RUN_WEIGHTS, METRICS):
                growing = _growing_table(run, table)
                remove_temporaries_in(growing.folder)
                cut_back(growing.folder, table, growing.provenance, last_step)
            if last_step < 0:
                write_json(run.folder / RUN_FILE, _record(run))
            else:
                facts = {key: _record(run)[key] for key in ("status", "config", "schedule", "found", "num_parameters")}
                update_run(run.folder, **facts)
            with atomic_file(run.folder / CONFIG_FILE) as path:
                path.write_text(run.config.to_toml(), encoding="utf-8")
    if run.is_main:
        run.weights_table, run.metrics_table = _growing_table(run, RUN_WEIGHTS), _growing_table(run, METRICS)
    run.accelerator.wait_for_everyone()  # nobody writes into a folder before it is there
    if run.config.log_with:
        start_tracker(run.accelerator, run.config)


def _growing_table(run: Training, table: Table) -> GrowingTable:
    provenance = provenance_of(table, "toremi pretrain", run.config.to_json(), {"tokens": run.cache.fingerprint})
    return GrowingTable(run.folder / table.name, table, provenance)


def _record(run: Training) -> dict[str, Any]:
    """What `run.json` holds when a run begins."""
    values = run.config.to_json()
    return {
        "status": "running",
        "config": values,
        "data": run.cache.fingerprint,
        "order": ORDER_VERSION,
        "annotated": run.cache.meta["annotated"],
        "fingerprint": digest(values, run.cache.fingerprint),
        "toremi_version": __version__,
        "torch_version": torch.__version__,
        "schedule": {**asdict(run.schedule), "last_peak_step": run.schedule.last_peak_step},
        "found": asdict(run.found) if run.found else None,
        "num_parameters": run.num_parameters,
    }
