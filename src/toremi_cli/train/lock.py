"""Who may write to a run's folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toremi_cli.errors import TrainingError


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
