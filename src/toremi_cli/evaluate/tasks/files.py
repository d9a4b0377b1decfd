"""Finding a task's file and reading its items."""

from __future__ import annotations

from toremi_cli.errors import UsageError
from toremi_cli.evaluate.rows import read_examples, task_files
from toremi_cli.evaluate.tasks.items import TASKS, Item, Task

SPLITS = ("validation", "dev", "test", "train")
"""Which split is taken where several are there, in this order."""


def parse_tasks(wanted: str, folder: str | None) -> list[tuple[Task, str]]:
    """'piqa,sciq=my.jsonl' as tasks with their files.

    Args:
        wanted: names of tasks, or NAME=FILE.
        folder: where files are looked for by the task's name.

    Raises:
        UsageError: no such task, or no file for it.
    """
    found = []
    for entry in filter(None, (part.strip() for part in wanted.split(","))):
        name, _, file = entry.partition("=")
        if name not in TASKS:
            raise UsageError(f"--tasks {name}: unknown; expected some of {', '.join(TASKS)}")
        place = task_files(file, f"--tasks {name}:")[0].shown if file else _find(TASKS[name], folder)
        found.append((TASKS[name], place))
    if not found:
        raise UsageError(f"--tasks: name some of {', '.join(TASKS)}")
    return found


def _find(task: Task, folder: str | None) -> str:
    if not folder:
        raise UsageError(
            f"--tasks {task.name}: name the folder of its file with --task-data, or {task.name}=FILE, "
            f"or harness:{task.name} to have the harness fetch it from the hub"
        )
    files = task_files(folder)
    for word in task.files:
        fitting = [file for file in files if word in file.name.lower()]
        for split in SPLITS:
            if chosen := [file for file in fitting if split in file.name.lower()]:
                return chosen[0].shown
        if fitting:
            return fitting[0].shown
    raise UsageError(f"--task-data {folder}: no file for {task.name} (one whose name has '{task.files[0]}')")


def read_items(task: Task, location: str, limit: int | None = None) -> list[Item]:
    """The items of a file, its first `limit` (None: all).

    Raises:
        CorpusError: no such file, a broken row, with its line, or no rows.
    """
    return read_examples([location], task.make, limit, f"row of task {task.name}")
