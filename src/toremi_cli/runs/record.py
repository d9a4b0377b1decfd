"""`run.json`: what a run's folder says of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toremi_cli.errors import TrainingError
from toremi_cli.files import read_json, write_json

RUN_FILE = "run.json"
CONFIG_FILE = "config.toml"
"""The run's settings, for `toremi pretrain --config`."""
FINISHED = "finished"
"""`status` of a run that has reached its last step."""
RUNTIME_FIELDS = frozenset(
    {
        "workdir", "annotated", "tokenizer", "name", "micro_batch", "checkpoint_every", "keep_checkpoints",
        "async_checkpoint",
        "gpus", "processes", "log_with", "gradient_checkpointing", "chunked_loss", "compile", "rank_timeout",
        "accelerate_config", "cache_gb", "quiet", "debug",
    }
)  # fmt: skip
"""Settings that a resumed run may change: they don't change what is trained."""


def read_run(folder: Path) -> dict[str, Any] | None:
    """The record of a run, None where there is none.

    Raises:
        TrainingError: the record is damaged.
    """
    path = folder / RUN_FILE
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise TrainingError(
            f"{path}: damaged ({problem}); restore it, or train the run anew with `toremi pretrain --overwrite`"
        ) from None


def update_run(folder: Path, **facts: Any) -> dict[str, Any]:
    """Add facts to a run's record and return it."""
    record = {**(read_run(folder) or {}), **facts}
    write_json(folder / RUN_FILE, record)
    return record
