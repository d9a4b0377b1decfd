"""What one process builds and others wait for, before there is a process group whose end would tell of a failure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path

from toremi_cli.errors import TrainingError
from toremi_cli.locks import lock_beside, locked

PATIENCE_SECONDS = 600.0
"""How long a rank waits for the first one to begin, or to go on."""


def build_once(folder: Path, build: Callable[[], None] | None, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """See to it that a folder is there whole, which its `meta.json` tells.

    Args:
        folder: what is wanted.
        build: puts it there, in one process of all that want it; None to wait until another process has.
        patience_seconds: how long to wait while nothing of it grows.

    Raises:
        TrainingError: nobody builds it.
    """
    last_file = folder / "meta.json"
    if last_file.is_file():
        return
    if build is None:
        wait_for(folder, last_file.name, patience_seconds)
        return
    with locked(lock_beside(folder), folder, "let it end", wait_seconds=math.inf):
        if not last_file.is_file():  # else the process that held the lock has built it
            build()


def wait_for(folder: Path, last_file: str, patience_seconds: float) -> None:
    """Wait until another process has built a folder, of which `last_file` is the end.

    As long as its files grow there is no deadline: a large corpus takes hours.

    Raises:
        TrainingError: nothing has grown for `patience_seconds`.
    """
    written: set[tuple[str, int, int]] = set()
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


def _sizes(folder: Path) -> set[tuple[str, int, int]]:
    """Names, sizes and blocks of the files that have been written so far, whoever writes them."""
    found = set()
    unfinished = folder.parent.glob(f".{folder.name}.tmp-*/*")  # as `atomic_folder` calls it until it is whole
    for path in chain(unfinished, folder.parent.glob(f"{folder.name}.parts/*/*")):
        with suppress(FileNotFoundError):  # it got its name in this moment
            found.add((str(path), path.stat().st_size, path.stat().st_blocks))  # a mapped file has its size at once
    return found
