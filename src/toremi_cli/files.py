"""Files and folders that appear whole or not at all, and JSON in them."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from toremi_cli.locks import lock_beside, locked


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file beside `path`, renamed to it on success and removed on failure.

    What killed writers of `path` left is removed first. Write into the file; don't put another in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, glob.escape(path.name))
    temporary, owner = _owned_temporary(path)
    with owner:
        try:
            yield temporary
            os.fsync(owner.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _owned_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """A new temporary of `path`, locked as long as it is open: the lock goes with its writer, however that ends."""
    while True:
        temporary = path.with_name(f".{path.name}.tmp-{secrets.randbelow(10**9)}")
        owner = temporary.open("xb")
        with suppress(OSError):  # a file system without locks: there nobody can tell, and nobody removes
            fcntl.flock(owner, fcntl.LOCK_EX)
        if os.fstat(owner.fileno()).st_nlink:  # else another writer took it for abandoned before it was locked
            return temporary, owner
        owner.close()


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove those temporaries of a folder's files, of names like `pattern`, whose writers are gone."""
    for leftover in folder.glob(f".{pattern}.tmp-*"):
        with suppress(OSError), leftover.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
            leftover.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `path`, put into its place on success and removed on failure.

    What stands there stays until then. The caller sees to it that no other process writes the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries_of(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.mkdir()
    try:
        yield temporary
        earlier = _aside(path)
        if path.exists():
            path.rename(earlier)
        temporary.rename(path)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """`atomic_folder` for a folder that the user names, held against other commands.

    Raises:
        BusyError: another command is writing it.
    """
    with locked(lock_beside(path), path, "let it end, or name another --output"), atomic_folder(path) as temporary:
        yield temporary


def _aside(path: Path) -> Path:
    """Where a folder stands in the moment that another takes its place."""
    return path.with_name(f".{path.name}.old")


def remove_temporaries_of(path: Path) -> None:
    """Remove what killed writers of `path` left; a folder that one of them had just put aside comes back."""
    earlier = _aside(path)
    if earlier.exists() and not path.exists():
        earlier.rename(path)
    leftovers = list(path.parent.glob(f".{glob.escape(path.name)}.tmp-*"))
    for leftover in [earlier, *leftovers] if earlier.exists() else leftovers:
        _remove(leftover)


def remove_temporaries_in(folder: Path) -> None:
    """Remove what killed writers of files below `folder` left. No other process may be writing there."""
    for leftover in list(folder.rglob(".*.tmp-*")):
        _remove(leftover)
    for earlier in list(folder.rglob(".*.old")):
        remove_temporaries_of(earlier.with_name(earlier.name[1:].removesuffix(".old")))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        OSError: it isn't there.
        ValueError: it is damaged.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def find_json(path: Path) -> Any:
    """Read what `write_json` wrote; None where it isn't there or is damaged."""
    with suppress(OSError, ValueError):
        return read_json(path)
    return None
