"""Files behind any fsspec URL: opened, and asked for with patience; what fails is one line."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

from toremi_cli.errors import ToremiError, TrainingError, reason

EXTRAS = ("s3", "gs")
"""Of our extras, those named as the protocol that they are for."""
NUM_CONNECTIONS = 64
"""To S3 at a time; its library has ten, with which small requests come half as fast."""
WAITS_SECONDS = (1.0, 4.0, 16.0)
"""Before each further try."""
PATIENCE_SECONDS = 60.0
"""After that there is no further try: libraries have tried for minutes by themselves."""
HOPELESS = (FileNotFoundError, PermissionError, NotADirectoryError)
"""What the next try would meet again; likewise missing credentials, of which each store has an error of its own."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Or its quota: that is no fault of the store."""

Found = TypeVar("Found")


def open_filesystem(url: str, error: type[ToremiError] = TrainingError) -> tuple[Any, str]:
    """The file system that holds a path, as fsspec knows it, and the path in it.

    Raises:
        error: no such protocol, or its package is missing.
    """
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    options = {}
    if url.startswith("s3://"):
        own = conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {"max_pool_connections": NUM_CONNECTIONS, **own}
    try:
        filesystem, root = url_to_fs(url, **options)
    except ImportError as problem:
        protocol = url.partition("://")[0]
        package = f"'toremi[{protocol}]'" if protocol in EXTRAS else "the package that fsspec names"
        raise error(f"{url}: {why(problem)} (pip install {package})") from None
    except ValueError as problem:
        raise error(f"{url}: {why(problem)}") from None
    return filesystem, root


def is_local(filesystem: Any) -> bool:
    """Whether it is the local file system, as fsspec knows it."""
    return filesystem.protocol == "file" or "file" in filesystem.protocol


def with_patience(url: str, ask: Callable[[], Found]) -> Found:
    """What `ask` returns; a store that fails is asked again after a while, and named at last.

    Raises:
        TrainingError: it has failed each time.
        OSError: this machine's disk is full.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    for tried in count(1):
        try:
            return ask()
        except ToremiError:
            raise
        except Exception as problem:  # each store raises its own kinds
            if getattr(problem, "errno", None) in DISK_FULL:
                raise
            hopeless = isinstance(problem, HOPELESS) or "Credentials" in type(problem).__name__
            if hopeless or tried > len(WAITS_SECONDS) or time.monotonic() > deadline:
                often = "" if hopeless else f", tried {tried} times"
                what = "no such file" if reason(problem) in url else why(problem)
                raise TrainingError(
                    f"{url}: {what}{often}; see that the address, the credentials and the network are right, then run "
                    "the same command again"
                ) from None
            time.sleep(WAITS_SECONDS[tried - 1])
    raise AssertionError


def why(problem: BaseException) -> str:
    """What an error says, the file's name with it, as part of one line."""
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    return reason(problem)
