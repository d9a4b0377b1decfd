"""Waiting for what the first rank builds, before there is a process group whose end would tell that it has failed."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import chain
from pathlib import Path

from toremi_cli.errors import TrainingError

PATIENCE_SECONDS = 600.0
"""How long a rank waits for the first one to begin, or to go on."""


def wait_for(folder: Path, last_file: str, patience_seconds: float) -> None:
    """Wait until another process has built a folder, of which `last_file` is the end.

    As long as its files grow there is no deadline: a large corpus takes hours.

    Raises:
        TrainingError: nothing has grown for `patience_seconds`.
    """
    written: set[tuple[str, int]] = set()
    deadline = time.monotonic() + patience_seconds
    while not (folder / last_file).is_file():
        before, written = written, _sizes(folder)
        if written != before:
            deadline = time.monotonic() + patience_seconds
        elif time.monotonic() > deadline:
            raise TrainingError(
                f"{folder}: the first rank has not built it, and nothing of it has grown for {patience_seconds:g} "
                "seconds; that rank's own message says why"
            )
        time.sleep(0.2)


def _sizes(folder: Path) -> set[tuple[str, int]]:
    """Names and sizes of the files that have been written so far, whoever writes them."""
    found = set()
    unfinished = folder.parent.glob(f".{folder.name}.tmp-*/*")  # as `atomic_folder` calls it until it is whole
    for path in chain(unfinished, folder.parent.glob(f"{folder.name}.parts/*/*")):
        with suppress(FileNotFoundError):  # it got its name in this moment
            found.add((str(path), path.stat().st_size))
    return found
