"""Finding runs and their checkpoints, and telling whole ones from those still being written or damaged."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.layout import Workdir

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
RUN_RECORD = "run.json"


@dataclass(frozen=True)
class Checkpoint:
    """One saved model in Hugging Face layout."""

    name: str
    folder: Path
    step: int

    def check(self) -> None:
        """Refuse a checkpoint that is half there.

        Raises:
            TrainingError: a file is missing or cut off; names it.
        """
        problem = what_is_wrong(self.folder)
        if problem:
            raise TrainingError(f"{self.folder}: {problem}; delete it, or choose another one with --checkpoint")


@dataclass(frozen=True)
class Run:
    """A run's folder, or a bare model folder that stands for one."""

    name: str
    folder: Path

    @property
    def is_bare_model(self) -> bool:
        """Whether this is a model's folder rather than a run's."""
        return not (self.folder / RUN_RECORD).exists() and (self.folder / "config.json").exists()

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds; empty where there is none.

        Raises:
            TrainingError: it isn't JSON.
        """
        path = self.folder / RUN_RECORD
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            raise TrainingError(f"{path}: not valid JSON; restore it, or train the run again") from None

    @property
    def config(self) -> dict[str, Any]:
        """The run's settings (`TrainConfig`), empty where unknown."""
        return self.record.get("config", {})

    @property
    def topic_mode(self) -> str:
        """What it took a sample's topics to be: one of `sample_topics.TOPIC_MODES`."""
        return str(self.config.get("topics", "labels"))

    def annotated(self, workdir: Workdir) -> Path:
        """The table that it was trained on."""
        return Path(self.config.get("annotated") or workdir.annotated)

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoint folders, by step, whole or not."""
        if self.is_bare_model:
            return [Checkpoint(self.folder.name, self.folder, 0)]
        found = [(int(m[1]), p) for p in self.folder.glob("checkpoint-*") if (m := CHECKPOINT.fullmatch(p.name))]
        return [Checkpoint(path.name, path, step) for step, path in sorted(found)]

    def choose(self, wanted: str) -> list[Checkpoint]:
        """The checkpoints that `--checkpoint` names: 'last' whole one, 'all', or a step.

        Raises:
            TrainingError: there is none.
        """
        found = self.checkpoints()
        if not found:
            state = "it is still going" if self.is_going else "it has not come so far or they were deleted"
            raise TrainingError(f"run {self.name}: no checkpoint in {self.folder} ({state}); train it further first")
        if wanted == "all":
            return found
        if wanted == "last":
            return [next((c for c in reversed(found) if what_is_wrong(c.folder) is None), found[-1])]
        chosen = [c for c in found if wanted in (str(c.step), c.name)]
        if not chosen:
            steps = ", ".join(str(c.step) for c in found)
            raise TrainingError(f"run {self.name}: no checkpoint-{wanted} in {self.folder}; there are {steps}")
        return chosen

    @property
    def is_going(self) -> bool:
        """Whether the run has not reached its last step yet."""
        record = self.record
        return bool(record) and record.get("status") != "finished"


def find_runs(names: Sequence[str], workdir: Workdir) -> list[Run]:
    """The runs so named, by name in the workdir or by path; without names every run that has a checkpoint.

    Raises:
        UsageError: no such run; says which there are.
    """
    root = workdir.root / "runs"
    known = sorted(p.name for p in root.iterdir() if (p / RUN_RECORD).exists()) if root.is_dir() else []
    if not names:
        runs = [Run(name, root / name) for name in known]
        if not runs:
            raise UsageError(f"{root}: no runs there; train one with `toremi pretrain`, or name a folder")
        return runs
    return [_find_run(name, root, known) for name in dict.fromkeys(names)]


def _find_run(name: str, root: Path, known: Sequence[str]) -> Run:
    for folder in (root / name, Path(name)):
        if folder.is_dir():
            run = Run(folder.resolve().name, folder)
            if (folder / RUN_RECORD).exists() or run.checkpoints():
                return run
    there = f"there are {', '.join(known)}" if known else "there are none yet"
    raise UsageError(f"run {name}: neither a run in {root} ({there}) nor the folder of a run or model")


def what_is_wrong(folder: Path) -> str | None:
    """Why a model folder cannot be loaded, None if all its files are whole."""
    if not (folder / "config.json").is_file():
        return "no config.json, the checkpoint is not whole"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError):
            return f"{index.name} is not a valid index"
    else:
        names = ["model.safetensors"]
    for number, name in enumerate(names, start=1):
        if not (folder / name).is_file():
            return f"{name} is missing (shard {number} of {len(names)})"
        if not is_whole_safetensors(folder / name):
            return f"{name} is cut off or damaged"
    return None


def count_parameters(run: Run) -> int:
    """Parameters of a run's newest whole checkpoint, tied ones once; 0 where there is none."""
    for checkpoint in reversed(run.checkpoints()):
        if what_is_wrong(checkpoint.folder) is None:
            headers = [_read_header(path)[1] for path in checkpoint.folder.glob("model*.safetensors")]
            tensors = [entry for header in headers for name, entry in header.items() if name != "__metadata__"]
            return sum(math.prod(entry["shape"]) for entry in tensors)
    return 0


def _read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """Length and contents of a safetensors file's header; empty where it has none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            return length, {}
        try:
            return length, json.loads(file.read(length))
        except ValueError:
            return length, {}


def is_whole_safetensors(path: Path) -> bool:
    """Whether the file is as long as its header says."""
    size = path.stat().st_size
    header_length, header = _read_header(path)
    if not header:
        return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return 8 + header_length + max(ends, default=0) == size
