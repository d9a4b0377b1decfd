"""Finding a task's file and reading its items."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from toremi_cli.errors import CorpusError, UsageError
from toremi_cli.evaluate.tasks.items import TASKS, BadRow, Item, Task

SUFFIXES = (".jsonl", ".jsonl.zst", ".jsonl.gz")
SPLITS = ("validation", "dev", "test", "train")
"""Which split is taken where several are there, in this order."""


def parse_tasks(wanted: str, folder: str) -> list[tuple[Task, Path]]:
    """'piqa,sciq=my.jsonl' as tasks with their files.

    Args:
        wanted: names of tasks, or NAME=FILE.
        folder: where files are looked for by the task's name.

    Raises:
        UsageError: no such task, or no file for it.
    """
    found = []
    for entry in filter(None, (part.strip() for part in wanted.split(","))):
        name, given, file = entry.partition("=")
        if name not in TASKS:
            raise UsageError(f"--tasks {name}: unknown; expected some of {', '.join(TASKS)}")
        path = Path(file) if given else _find(TASKS[name], folder)
        if not path.is_file():
            raise UsageError(f"--tasks {entry}: {path}: no such file")
        found.append((TASKS[name], path))
    if not found:
        raise UsageError(f"--tasks: name some of {', '.join(TASKS)}")
    return found


def _find(task: Task, folder: str) -> Path:
    if not folder:
        raise UsageError(f"--tasks {task.name}: name the folder of its file with --task-data, or {task.name}=FILE")
    paths = sorted(p for p in Path(folder).glob("*") if p.name.endswith(SUFFIXES))
    for word in task.files:
        fitting = [p for p in paths if word in p.name.lower()]
        for split in SPLITS:
            if chosen := [p for p in fitting if split in p.name.lower()]:
                return chosen[0]
        if fitting:
            return fitting[0]
    raise UsageError(f"--task-data {folder}: no file for {task.name} (a .jsonl whose name has '{task.files[0]}')")


def read_items(task: Task, path: Path, limit: int = 0) -> list[Item]:
    """The items of a file, its first `limit` (0: all).

    Raises:
        CorpusError: a broken row, with its line, or no rows.
    """
    items: list[Item] = []
    for number, line in enumerate(_lines(path), start=1):
        if limit and len(items) >= limit:
            break
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise BadRow(f"holds {type(row).__name__}, expected an object")
            items.append(task.make(row))
        except BadRow as problem:
            raise CorpusError(f"{path}:{number}: {problem}; not a row of task {task.name}") from None
        except ValueError as problem:
            raise CorpusError(f"{path}:{number}: not valid JSON ({problem})") from None
    if not items:
        raise CorpusError(f"{path}: no rows; expected items of task {task.name}")
    return items


def _lines(path: Path) -> Iterator[str]:
    with _open(path) as file:
        try:
            yield from io.TextIOWrapper(file, encoding="utf-8")
        except UnicodeDecodeError as problem:
            raise CorpusError(f"{path}: not UTF-8 ({problem.reason} at byte {problem.start})") from None


def _open(path: Path) -> IO[bytes]:
    if path.name.endswith(".zst"):
        import zstandard

        return zstandard.open(path, "rb")
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]
