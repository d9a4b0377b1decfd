"""A run's folder: what `run.json` says, who may write, and what an existing run means for a new command."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toremi_cli.errors import TrainingError
from toremi_cli.tables import read_json, write_json
from toremi_cli.train.config import RUNTIME_FIELDS, TrainConfig

RUN_FILE = "run.json"
FINISHED = "finished"


def read_run(run: Path) -> dict[str, Any] | None:
    """The record of a run, None where there is none.

    Raises:
        TrainingError: the record is damaged.
    """
    path = run / RUN_FILE
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise TrainingError(f"{path}: damaged ({problem}); name another run with --name or use --overwrite") from None


def update_run(run: Path, **facts: Any) -> dict[str, Any]:
    """Add facts to a run's record and return it."""
    record = {**(read_run(run) or {}), **facts}
    write_json(run / RUN_FILE, record)
    return record


def differences(old: Mapping[str, Any], new: TrainConfig) -> list[str]:
    """What differs between a run's settings and new ones, in words, runtime settings left out."""
    found = []
    before, after = TrainConfig.from_json(old).to_json(), new.to_json()
    for key in sorted(set(before) - RUNTIME_FIELDS):
        if key == "policy":
            a, b = before[key], after[key]
            found += [f"{k} was {a.get(k)}, is {b.get(k)}" for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
        elif before[key] != after[key]:
            found.append(f"{key} was {before[key]}, is {after[key]}")
    return found


@contextmanager
def locked(run: Path, wait_seconds: float = 10.0) -> Iterator[None]:
    """Hold a run's folder against other processes; the lock goes with the process, however it ends.

    Raises:
        TrainingError: another process trains this run.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("a+") as file:
        deadline = time.monotonic() + wait_seconds  # a killed run's last rank may need a moment
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    holder = file.read().strip() or "another process"
                    raise TrainingError(f"{run}: process {holder} trains this run; name another with --name") from None
                time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
