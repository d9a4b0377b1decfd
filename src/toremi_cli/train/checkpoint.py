"""Checkpoints: whole or absent, in Hugging Face layout, with all that an exact resume needs. No pickle.

`checkpoint-N/` holds `model.safetensors`, `config.json` and the tokenizer (what `from_pretrained` reads), and for the
trainer `optimizer.safetensors`, `accumulators.safetensors` and `trainer_state.json`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from toremi_cli.errors import TrainingError, reason
from toremi_cli.runs.checkpoints import Checkpoint, how_to_go_on, list_checkpoints
from toremi_cli.tables import read_json, write_json
from toremi_cli.train.sharding import like

STATE, OPTIMIZER, ACCUMULATORS = "trainer_state.json", "optimizer.safetensors", "accumulators.safetensors"
STATE_VERSION = 7
"""Of what `trainer_state.json` holds and of what a run does with it."""
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.*"),
    *("vocab.*", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece*.model", "tokenization_*.py"),
)
"""What a tokenizer's folder in Hugging Face layout may hold of the tokenizer itself."""


def resumable(run: Path) -> list[Checkpoint]:
    """The checkpoints that a run can go on from, oldest first."""
    return [checkpoint for checkpoint in list_checkpoints(run) if (checkpoint.folder / STATE).is_file()]


def save_checkpoint(
    run: Path,
    step: int,
    *,
    model: nn.Module,
    model_state: Mapping[str, Tensor] | None,
    optimizer: Mapping[str, Tensor],
    accumulators: Mapping[str, Tensor],
    state: Mapping[str, Any],
    tokenizer: Path,
    keep: int,
) -> Path:
    """Write `checkpoint-STEP` and remove the oldest so that `keep` stay (0: all).

    Args:
        run: the run's folder.
        step: optimizer steps done.
        model: the transformers model.
        model_state: its gathered parameters where it is sharded, None to take the model's own.
        optimizer: by `optimizer_tensors`.
        accumulators: sums of the interval and the log window under way.
        state: JSON-able rest.
        tokenizer: folder whose tokenizer is copied beside the model, whatever else it holds.
        keep: checkpoints to keep.

    Raises:
        TrainingError: the disk is full or cannot be written; earlier checkpoints are intact.
    """
    final = run / f"checkpoint-{step}"
    temporary = run / f".checkpoint-{step}.tmp-{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _copy_tokenizer(tokenizer, temporary)
        model.save_pretrained(temporary, state_dict=model_state)  # type: ignore[operator]
        save_file(_plain(optimizer), temporary / OPTIMIZER)
        save_file(_plain(accumulators), temporary / ACCUMULATORS)
        write_json(temporary / STATE, {**state, "step": step, "version": STATE_VERSION})
        _sync(temporary)
        _discard(final)
        temporary.rename(final)
    except Exception as problem:
        shutil.rmtree(temporary, ignore_errors=True)
        if not isinstance(problem, OSError | SafetensorError):
            raise
        why = getattr(problem, "strerror", None) or reason(problem)
        raise TrainingError(
            f"{final}: cannot write the checkpoint ({why}); earlier checkpoints are intact: make room, then "
            f"{how_to_go_on(run)}"
        ) from None
    for old in resumable(run)[:-keep] if keep else []:
        _discard(old.folder)
    return final


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint.

    Raises:
        TrainingError: it is damaged, or another version of toremi wrote it: the run would go on by other rules.
    """
    try:
        state = read_json(checkpoint / STATE)
        version = state.get("version", 1)
    except (OSError, ValueError, AttributeError) as problem:
        raise TrainingError(f"{checkpoint / STATE}: damaged ({problem}); delete {checkpoint} and resume") from None
    if version != STATE_VERSION:
        raise TrainingError(
            f"{checkpoint / STATE}: written by another version of toremi (format {version}, this one's is "
            f"{STATE_VERSION}); go on with that version, or train anew with --overwrite"
        )
    return state


def load_tensors(checkpoint: Path, name: str, device: torch.device) -> dict[str, Tensor]:
    """The optimizer's or the accumulators' tensors of a checkpoint.

    Raises:
        TrainingError: the file is missing or damaged.
    """
    try:
        return {key: tensor.to(device) for key, tensor in load_file(checkpoint / name).items()}
    except Exception as problem:  # safetensors has errors of its own
        raise TrainingError(
            f"{checkpoint / name}: damaged ({reason(problem)}); delete {checkpoint} and resume"
        ) from None


def model_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, those that go by two names once, and persistent buffers, as named tensors."""
    known = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    yield from ((name, tensor) for name, tensor in model.state_dict().items() if name in known)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state as named tensors: 'NAME/exp_avg', …"""
    for name, parameter in model.named_parameters():
        yield from ((f"{name}/{key}", value) for key, value in optimizer.state.get(parameter, {}).items())


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, slot = key.rpartition("/")
        by_parameter.setdefault(name, {})[slot] = value
    for name, parameter in model.named_parameters():
        if name in by_parameter:
            optimizer.state[parameter] = {slot: like(value, parameter) for slot, value in by_parameter[name].items()}


def remove_leftovers(run: Path) -> None:
    """Remove what a killed save left."""
    for path in run.glob(".checkpoint-*.tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _discard(checkpoint: Path) -> None:
    """Remove a checkpoint so that half of it never looks like a whole one."""
    if checkpoint.exists():
        doomed = checkpoint.with_name(f".{checkpoint.name}.tmp-{os.getpid()}-old")
        shutil.rmtree(doomed, ignore_errors=True)
        checkpoint.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _copy_tokenizer(folder: Path, to: Path) -> None:
    """Copy contents alone: beside them may lie a whole model, or a download's cache, or nothing may be writable."""
    for path in sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)}):
        if path.is_file():
            shutil.copyfile(path, to / path.name)


def _sync(folder: Path) -> None:
    """Have the disk hold every file before the folder gets its name."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
