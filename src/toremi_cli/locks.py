"""One process at a time: who may write to a workdir, a run, a folder.

Our own rather than `filelock`, which cannot tell who holds a lock, and where flock is missing leaves marks that outlive
a killed process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from toremi_cli import console
from toremi_cli.errors import BusyError

WAIT_SECONDS = 10.0
"""A killed command's last process may need a moment."""
POLL_SECONDS = 0.1
_HELD_BY_ANOTHER = {errno.EWOULDBLOCK, errno.EAGAIN}


def lock_beside(path: Path) -> Path:
    """The lock file of a file or folder that may not be there yet."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def locked(lock: Path, shown: Path, advice: str, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a lock against other processes while the block runs; it goes with the process, however that ends.

    Args:
        lock: the file that stands for it, removed at the end.
        shown: what it guards, for the error.
        advice: what the user can do if another process holds it.
        wait_seconds: how long to wait for that process; infinite to wait for its end, with a note.

    Raises:
        BusyError: another process holds it. On a file system without locks, one line warns instead.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = _acquired(lock, shown, advice, wait_seconds)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        file.close()


def _acquired(lock: Path, shown: Path, advice: str, wait_seconds: float) -> IO[str]:
    deadline = time.monotonic() + wait_seconds
    noted = False
    while True:
        file = lock.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno not in _HELD_BY_ANOTHER:
                console.warn(f"{shown}: no locks here ({problem.strerror}); start no second command on it")
                return file
            holder = _holder(file)
            file.close()
            if time.monotonic() > deadline:
                raise BusyError(f"{shown}: {holder} is at work on it; {advice}") from None
            if wait_seconds == float("inf") and not noted:
                console.note(f"{shown}: waiting for {holder}, which is at work on it")
                noted = True
            time.sleep(POLL_SECONDS)
            continue
        if os.fstat(file.fileno()).st_nlink:  # else its holder has removed it since we opened it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "another process"
