"""Finding a task's training and validation files, and reading their examples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from toremi_cli.corpus.listing import CorpusFile
from toremi_cli.errors import CorpusError, UsageError
from toremi_cli.evaluate.finetune.glue import GLUE, Example, GlueTask
from toremi_cli.evaluate.rows import read_examples, task_files
from toremi_cli.provenance import digest

TRAINING = ("train",)
VALIDATION = ("validation", "dev")
HUB = "hf://datasets/nyu-mll/glue"


@dataclass(frozen=True)
class GlueData:
    """A task with its examples."""

    task: GlueTask
    train: list[Example]
    evaluations: dict[str, list[Example]]
    """By the name under which the results stand: the task's, with the part where it has several."""

    @property
    def fingerprint(self) -> str:
        """Identifies the examples."""
        splits = (self.train, *self.evaluations.values())
        return digest(self.task.name, [[(e.texts, e.label) for e in split] for split in splits])


def parse_glue(wanted: str) -> list[GlueTask]:
    """'cola,sst2' as tasks.

    Raises:
        UsageError: no such task.
    """
    names = list(dict.fromkeys(part.strip().lower() for part in wanted.split(",") if part.strip()))
    unknown = [name for name in names if name not in GLUE]
    if unknown or not names:
        raise UsageError(f"--finetune {','.join(unknown) or wanted}: expected some of {', '.join(GLUE)}")
    return [GLUE[name] for name in names]


def read_glue(task: GlueTask, folder: str | None, limit: int | None = None) -> GlueData:
    """The examples of a task from the files below a folder (or hub path), `limit` of each split (None: all).

    Several files of a split belong together: shards, or CoLA's in_domain and out_of_domain.

    Raises:
        UsageError: no file for a split.
        CorpusError: a file has a broken row, or too little in it.
    """
    if not folder:
        raise UsageError(
            f"--finetune {task.name}: name the folder of its files with --task-data (on the hub: --task-data {HUB})"
        )
    own = [file for file in task_files(folder) if task.name in words_of(file.name)]
    train = _read(task, _of_split(task, own, TRAINING, folder), limit)
    evaluations = {}
    for part in task.evaluations:
        files = _of_split(task, [file for file in own if not part or part in words_of(file.name)], VALIDATION, folder)
        evaluations[f"{task.name}_{part}" if part else task.name] = _read(task, files, limit)
    if not task.is_regression and len({example.label for example in train}) < 2:
        raise CorpusError(f"{folder}: all {len(train)} training examples of {task.name} have the same label")
    return GlueData(task, train, evaluations)


def words_of(name: str) -> set[str]:
    """The words of a file's path: 'glue/SST-2/train-00000.parquet' has sst2 and train."""
    name = re.sub(r"(sst)-2|(sts)-b", lambda match: "sst2" if match[1] else "stsb", name.lower())
    return set(re.split(r"[^a-z0-9]+", name))


def _of_split(task: GlueTask, files: Sequence[CorpusFile], split: Sequence[str], folder: str) -> list[CorpusFile]:
    for word in split:
        if found := [file for file in files if word in words_of(file.name)]:
            return found
    names = ", ".join(file.name for file in files) or "none"
    raise UsageError(
        f"--task-data {folder}: no {split[0]} file for {task.name}; expected one whose name has '{task.name}' and "
        f"'{split[0]}' (of this task: {names})"
    )


def _read(task: GlueTask, files: Sequence[CorpusFile], limit: int | None) -> list[Example]:
    return read_examples([file.shown for file in files], task.example, limit, f"labelled row of task {task.name}")
