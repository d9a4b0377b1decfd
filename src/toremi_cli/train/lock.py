"""Who may write to a run's folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toremi_cli.errors import TrainingError
from toremi_cli.runs.record import RUN_FILE

LOCK_FILE = ".lock"


@contextmanager
def locked(run: Path, wait_seconds: float = 10.0) -> Iterator[None]:
    """Hold a run's folder against other processes; the lock goes with the process, however it ends.

    Raises:
        TrainingError: another process trains this run.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK_FILE).open("a+") as file:
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


@contextmanager
def set_aside(run: Path) -> Iterator[None]:
    """Put a run away while another of its name starts: it is deleted once that one has begun, and else comes back.

    Raises:
        TrainingError: another process trains this run, or the folder is none of ours.
    """
    if not (run / RUN_FILE).exists() and any(path.name != LOCK_FILE for path in run.iterdir()):
        raise TrainingError(f"{run}: not a run of toremi; will not delete it")
    aside = run.with_name(f".{run.name}.overwritten-{os.getpid()}")
    with locked(run, wait_seconds=3):
        run.rename(aside)
    try:
        yield
    finally:
        if (run / RUN_FILE).exists():
            shutil.rmtree(aside)
        else:
            shutil.rmtree(run, ignore_errors=True)
            aside.rename(run)
