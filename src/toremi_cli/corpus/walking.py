"""The files below a path, on the local disk or behind any fsspec URL."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from toremi_cli import remote
from toremi_cli.errors import CorpusError
from toremi_cli.layout import Workdir
from toremi_cli.remote import is_local

NOT_A_FILE = "pipe or device"
"""Type of an entry that is neither file nor folder."""
WORKDIR = "workdir"
"""Type of an entry that stands for a whole workdir of ours, or for what we wrote into one."""
MADE = ("_manifest.json", "_plan.json")
"""One of these is in a folder that a stage has made."""

Entry = tuple[str, dict[str, Any]]
"""A file's path in its file system, and what is known of it: size, type, a stamp."""


def open_filesystem(corpus: str) -> tuple[Any, str]:
    """The file system that holds a corpus, as fsspec knows it, and the corpus' path in it.

    Raises:
        CorpusError: no such protocol, or its package is missing.
    """
    if not corpus:
        raise CorpusError("the corpus has an empty name; expected a file, a folder or a URL")
    return remote.open_filesystem(corpus, CorpusError)


def find_entries(filesystem: Any, root: str, corpus: str, expected: str, workdir: Path | None) -> list[Entry]:
    """All files at or below `root`, ordered by path; without what stands in `workdir` or in another workdir of ours.

    Raises:
        CorpusError: nothing there, or it can't be read.
    """
    try:
        if filesystem.isfile(root):
            return [(root, filesystem.info(root))]
        if filesystem.isdir(root):
            return sorted(_walk(filesystem, root, workdir), key=lambda entry: entry[0])
        why = _why_absent(corpus, is_local(filesystem), root)
    except CorpusError:
        raise
    except Exception as problem:  # a remote file system raises its own kinds
        raise CorpusError(f"{corpus}: cannot be read ({remote.why(problem)})") from None
    raise CorpusError(f"{corpus}: {why}; expected a corpus ({expected})")


def _why_absent(corpus: str, local: bool, root: str) -> str:
    path = Path(root)
    if corpus == "-" or (local and path.exists()):
        what = "standard input" if corpus in ("-", "/dev/stdin") else "a pipe or device"
        return f"{what} is read once and a corpus twice: write it to a file"
    if local and path.is_symlink():
        return "is a link to something that is not there"
    if any(sign in corpus for sign in "*?["):
        return "no such file or folder; patterns are the shell's to fill in (leave out the quotes), or name the folder"
    return "no such file or folder"


def _walk(filesystem: Any, root: str, workdir: Path | None) -> Iterator[Entry]:
    if not is_local(filesystem):
        yield from filesystem.find(root, detail=True).items()
        return
    # fsspec's own walk passes over folders that it may not enter, without a word

    def refuse(problem: OSError) -> None:
        raise problem

    own = os.path.realpath(workdir) if workdir else None
    entered: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        entered.add(real)
        if folder != root and (real == own or _is_workdir(folder, subfolders)):
            subfolders.clear()
            yield folder, {"size": 0, "type": WORKDIR}
            continue
        ours = _made_in(folder) if real == own else ()
        yield from ((os.path.join(folder, name), {"size": 0, "type": WORKDIR}) for name in ours)  # noqa: PTH118
        inner = [name for name in subfolders if not name.startswith(".") and name not in ours]
        # a link back to a folder above would go round for ever
        subfolders[:] = [name for name in inner if os.path.realpath(os.path.join(folder, name)) not in entered]  # noqa: PTH118
        yield from (_entry(os.path.join(folder, name), name) for name in names if name not in ours)  # noqa: PTH118


def _entry(path: str, name: str) -> Entry:
    if name.startswith("."):
        return path, {"size": 0, "type": "file"}
    try:
        status = os.stat(path)  # noqa: PTH116 - millions of files
    except OSError as problem:
        return path, {"size": 0, "type": "file", "problem": problem.strerror}
    kind = "file" if stat.S_ISREG(status.st_mode) else NOT_A_FILE
    return path, {"size": status.st_size, "mtime": status.st_mtime_ns, "type": kind}


def _is_workdir(folder: str, subfolders: Sequence[str]) -> bool:
    """Whether a stage of ours has filled this folder."""
    place = Workdir(Path(folder))
    stages = (place.samples, place.annotated)
    return any(stage.name in subfolders and _is_made(stage) for stage in stages)


def _made_in(folder: str) -> set[str]:
    """Names of what is ours in a workdir that is the corpus' own folder."""
    place = Workdir(Path(folder))
    made = {
        stage.name for stage in (place.samples, place.embeddings, place.clusters, place.annotated) if _is_made(stage)
    }
    others = (place.tokenizer, place.topics, place.llm_answers, place.run("x").parent)
    return made | {other.name for other in others} if made else made


def _is_made(folder: Path) -> bool:
    return any((folder / sign).exists() for sign in MADE)
