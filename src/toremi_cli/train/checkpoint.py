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
from toremi_cli.files import read_json, write_json
from toremi_cli.runs.checkpoints import Checkpoint, how_to_go_on, list_checkpoints
from toremi_cli.train.sharding import like

STATE, OPTIMIZER, ACCUMULATORS = "trainer_state.json", "optimizer.safetensors", "accumulators.safetensors"
STATE_VERSION = 9
"""Of what `trainer_state.json` holds and of what a run does with it."""
WRAPPERS = frozenset({"_checkpoint_wrapped_module", "_orig_mod"})
"""Parts of names that activation checkpointing and torch.compile add."""
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
    model_state: Mapping[str, Tensor],
    shapes: Mapping[str, torch.Size],
    optimizer: Mapping[str, Tensor],
    accumulators: Mapping[str, Tensor],
    state: Mapping[str, Any],
    tokenizer: Path,
    keep: int | None,
) -> Path:
    """Write `checkpoint-STEP` and remove the oldest so that `keep` stay (None: all).

    Args:
        run: the run's folder.
        step: optimizer steps done.
        model: the transformers model.
        model_state: its whole tensors, by `model_tensors`.
        shapes: what these have to be, by `shapes_of` the model before anything wrapped it.
        optimizer: by `optimizer_tensors`.
        accumulators: sums of the interval and the log window under way.
        state: JSON-able rest.
        tokenizer: folder whose tokenizer is copied beside the model, whatever else it holds.
        keep: checkpoints to keep.

    Raises:
        TrainingError: the disk is full or cannot be written, or the tensors aren't the model's; earlier checkpoints are
            intact.
    """
    _check_tensors(run, step, model_state, optimizer, shapes)
    final = run / f"checkpoint-{step}"
    temporary = run / f".checkpoint-{step}.tmp-{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _copy_tokenizer(tokenizer, temporary)
        model.save_pretrained(temporary, state_dict=model_state)  # type: ignore[operator]
        save_file(_contiguous(optimizer), temporary / OPTIMIZER)
        save_file(_contiguous(accumulators), temporary / ACCUMULATORS)
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


def plain_name(name: str) -> str:
    """A tensor's name in the bare model, without what torch's wrappers of a module put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def model_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, those that go by two names once, and persistent buffers, as named tensors."""
    known = {plain_name(name) for name, _ in (*model.named_parameters(), *model.named_buffers())}
    for name, tensor in model.state_dict().items():  # some wrappers show in the one list and not in the other
        if plain_name(name) in known:
            yield plain_name(name), tensor


def shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    """Names and shapes of `model_tensors`: what a checkpoint of the model has to hold."""
    return {name: tensor.shape for name, tensor in model_tensors(model)}


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state as named tensors: 'NAME/exp_avg', …"""
    for name, parameter in model.named_parameters():
        yield from ((f"{plain_name(name)}/{key}", value) for key, value in optimizer.state.get(parameter, {}).items())


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave.

    Raises:
        ValueError: names or shapes aren't the model's.
    """
    parameters = {plain_name(name): parameter for name, parameter in model.named_parameters()}
    problem = _misfit(tensors, {name: parameter.shape for name, parameter in parameters.items()})
    if problem:
        raise ValueError(problem)
    for key, value in tensors.items():
        name, _, slot = key.rpartition("/")
        optimizer.state[parameters[name]][slot] = like(value, parameters[name])


def _misfit(optimizer: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> str | None:
    """What of an optimizer's tensors belongs to no parameter; the count of steps has no shape."""
    for key, value in optimizer.items():
        expected = shapes.get(key.rpartition("/")[0])
        if expected is None:
            return f"{key} belongs to no tensor of the model"
        if value.dim() and value.shape != expected:
            return f"{key} is {tuple(value.shape)}, expected {tuple(expected)}"
    return None


def _check_tensors(
    run: Path, step: int, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
) -> None:
    """Refuse to write what could not be read again: a reader would start what is missing afresh."""
    found = {name: tensor.shape for name, tensor in model.items()}
    problem = _misfit(optimizer, shapes)
    if found != shapes:
        odd = sorted(name for name in {*found, *shapes} if found.get(name) != shapes.get(name))
        problem = f"{len(odd)} of {len({*found, *shapes})} tensors aren't as the model has them, such as {odd[0]}"
    if problem:
        raise TrainingError(
            f"{run}: no checkpoint of step {step}: {problem}; a wrapper that this version doesn't know hides them: "
            "train without it"
        )


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


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors takes them; it copies those of a GPU itself, those on the CPU need no copy."""
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


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
