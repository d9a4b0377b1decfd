"""Where caches are kept, ours and those of libraries: in a temporary folder where their own place cannot be written.

A container may run as a user without a home, over packages that belong to root. Numba then refuses to import what it
would cache, and matplotlib warns.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

from toremi_cli import console


def ensure_writable_caches() -> None:
    """Name other folders for caches that cannot be written, for this process and its children; say so once."""
    cache = _home("XDG_CACHE_HOME", ".cache")
    wanted = {
        "NUMBA_CACHE_DIR": (cache, *_package("umap")),
        "MPLCONFIGDIR": (_home("XDG_CONFIG_HOME", ".config"),),
    }
    lacking = [name for name, places in wanted.items() if name not in os.environ and not any(map(_writable, places))]
    if lacking:
        folder = _own_temporary_folder()
        os.environ |= {name: str(folder / name.lower()) for name in lacking}
        console.note(f"{cache}: cannot be written; caches of numba and matplotlib go to {folder}")


def own_cache() -> Path:
    """The folder of what may be forgotten between two commands."""
    cache = _home("XDG_CACHE_HOME", ".cache") / "toremi"
    return cache if _writable(cache) else _own_temporary_folder()


def _home(variable: str, usual: str) -> Path:
    return Path(os.environ.get(variable) or Path(os.path.expanduser("~"), usual))  # noqa: PTH111 (never raises)


def _package(name: str) -> tuple[Path, ...]:
    """The folder of a package, which is not imported; none where it is not installed."""
    found = importlib.util.find_spec(name)
    return tuple(map(Path, (found and found.submodule_search_locations) or ()))


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself where it is not there yet."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _own_temporary_folder() -> Path:
    """A folder that outlives the process, so that nothing is compiled twice, and that no one else can write to."""
    folder = Path(tempfile.gettempdir(), f"toremi-cache-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        return Path(tempfile.mkdtemp(prefix="toremi-cache-"))
    return folder
