"""A run's checkpoints: which there are, and telling whole ones from those still being written or damaged."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toremi_cli.errors import TrainingError

MODEL_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
_NAME = re.compile(r"checkpoint-(\d+)")


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
            advice = "" if is_in_shards(self.folder) else "; delete it, or choose another one with --checkpoint"
            raise TrainingError(f"{self.folder}: {problem}{advice}")


def step_of(name: str) -> int | None:
    """The number of optimizer steps that 'checkpoint-N' stands for; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def list_checkpoints(run: Path) -> list[Checkpoint]:
    """All checkpoints in a run's folder, by step, whole or not."""
    found = [(step, path) for path in run.glob("checkpoint-*") if (step := step_of(path.name)) is not None]
    return [Checkpoint(path.name, path, step) for step, path in sorted(found)]


def how_to_go_on(run: Path) -> str:
    """What to do about a run that ended early, as part of an error."""
    return "go on with --resume" if list_checkpoints(run) else "run the same command again"


def has_model(folder: Path) -> bool:
    """Whether a model in Hugging Face layout is there, whole or not; else ranks may have written shards of it."""
    return any((folder / name).is_file() for name in (MODEL_FILE, INDEX_FILE))


def is_in_shards(folder: Path) -> bool:
    """Whether the model is there in the ranks' shards alone, as a run that shares it between them leaves it midway."""
    return not has_model(folder) and any(folder.glob("shard-*.safetensors"))


def what_is_wrong(folder: Path) -> str | None:
    """Why a model folder cannot be loaded, None if all its files are whole."""
    if not (folder / "config.json").is_file():
        return "no config.json, the checkpoint is not whole"
    if is_in_shards(folder):
        return f"its model is in the ranks' shards: `toremi export {folder.parent} --to hf` puts it together"
    index = folder / INDEX_FILE
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError):
            return f"{index.name} is not a valid index"
    else:
        names = [MODEL_FILE]
    for number, name in enumerate(names, start=1):
        if not (folder / name).is_file():
            return f"{name} is missing (shard {number} of {len(names)})"
        if not is_whole_safetensors(folder / name):
            return f"{name} is cut off or damaged"
    return None


def count_parameters(checkpoints: Sequence[Checkpoint]) -> int:
    """Parameters of the newest whole checkpoint, tied ones once; 0 where there is none."""
    for checkpoint in reversed(checkpoints):
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
