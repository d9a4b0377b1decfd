"""A run's folder, and finding the runs that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.runs.checkpoints import Checkpoint, list_checkpoints, what_is_wrong
from toremi_cli.runs.record import FINISHED, RUN_FILE, read_run


@dataclass(frozen=True)
class Run:
    """A run's folder, or a bare model folder that stands for one."""

    name: str
    folder: Path

    @property
    def is_bare_model(self) -> bool:
        """Whether this is a model's folder rather than a run's."""
        return not (self.folder / RUN_FILE).exists() and (self.folder / "config.json").exists()

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds; empty where there is none.

        Raises:
            TrainingError: it is damaged.
        """
        return read_run(self.folder) or {}

    @property
    def config(self) -> dict[str, Any]:
        """The run's settings (`TrainConfig`), empty where unknown."""
        return self.record.get("config", {})

    @property
    def topic_mode(self) -> str:
        """What it took a sample's topics to be: one of `policy_config.TOPIC_MODES`."""
        return str(self.config.get("topics", "labels"))

    def annotated(self, workdir: Workdir) -> Path:
        """The table that it was trained on."""
        return Path(self.config.get("annotated") or workdir.annotated)

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoint folders, by step, whole or not."""
        if self.is_bare_model:
            return [Checkpoint(self.folder.name, self.folder, 0)]
        return list_checkpoints(self.folder)

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
        return bool(record) and record.get("status") != FINISHED


def seed_of(run: Run) -> int:
    """The run's seed, 0 where unknown."""
    return int(run.config.get("seed", 0))


def policy_of(run: Run) -> str:
    """Name of the run's policy; its own where unknown."""
    return str(run.config.get("policy", {}).get("name", run.name))


def find_runs(names: Sequence[str], workdir: Workdir) -> list[Run]:
    """The runs so named, by name in the workdir or by path; without names every run that has a checkpoint.

    Raises:
        UsageError: no such run; says which there are.
    """
    root = workdir.root / "runs"
    there = root.iterdir() if root.is_dir() else ()
    known = sorted(p.name for p in there if (p / RUN_FILE).exists() and not p.name.startswith("."))
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
            if (folder / RUN_FILE).exists() or run.checkpoints():
                return run
    there = f"there are {', '.join(known)}" if known else "there are none yet"
    raise UsageError(f"run {name}: neither a run in {root} ({there}) nor the folder of a run or model")
