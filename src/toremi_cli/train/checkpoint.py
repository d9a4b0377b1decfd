"""Checkpoints: whole or absent, in Hugging Face layout, with all that an exact resume needs. No pickle.

`checkpoint-N/` holds `model.safetensors`, `config.json` and the tokenizer (what `from_pretrained` reads), and for the
trainer `shard-RANK-of-N.safetensors` and `trainer_state.json`. Where ranks share the parameters, each has a shard, and
until the run's last step the model is in the shards alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from toremi_cli.errors import TrainingError, reason
from toremi_cli.files import read_json, write_json
from toremi_cli.lm.tokenizer import copy_tokenizer
from toremi_cli.runs.checkpoints import Checkpoint, how_to_go_on, list_checkpoints
from toremi_cli.train.shards import Part, Shards, write_shard

STATE = "trainer_state.json"
MODEL, OPTIMIZER, ACCUMULATORS = "model/", "optimizer/", "accumulators/"
"""How the names of a shard's tensors begin."""
STATE_VERSION = 12
"""Of what `trainer_state.json` holds and of what a run does with it."""
WRAPPERS = frozenset({"_checkpoint_wrapped_module", "_orig_mod"})
"""Parts of names that activation checkpointing and torch.compile add."""


def resumable(run: Path) -> list[Checkpoint]:
    """The checkpoints that a run can go on from, oldest first."""
    return [checkpoint for checkpoint in list_checkpoints(run) if (checkpoint.folder / STATE).is_file()]


@dataclass(frozen=True)
class Content:
    """What a rank writes of a checkpoint; it is seen in a run's folder once `publish` follows all ranks' `write`."""

    run: Path
    step: int
    shard: str
    """The name of this rank's file."""
    parts: Mapping[str, Part] | None
    """What goes there, by names that begin with what it is; None where another rank writes it."""
    model: nn.Module
    """The transformers model."""
    model_state: Mapping[str, Tensor] | None
    """Its whole tensors, by `model_tensors`; None where they go to the shards."""
    state: Mapping[str, Any]
    """JSON-able rest."""
    tokenizer: Path
    """Folder whose tokenizer is copied beside the model, whatever else it holds."""
    keep: int | None
    """Checkpoints that stay, the oldest are removed; None: all."""
    owns_folder: bool
    """Whether this rank writes what is no shard."""

    @property
    def _final(self) -> Path:
        return self.run / f"checkpoint-{self.step}"

    @property
    def _temporary(self) -> Path:
        return self.run / f".checkpoint-{self.step}.tmp-writing"

    def write(self) -> None:
        """Write what is this rank's, on the disk but under another name.

        Raises:
            TrainingError: the disk is full or cannot be written; earlier checkpoints are intact.
        """
        try:
            if self.parts is not None:
                self._temporary.mkdir(parents=True, exist_ok=True)
                write_shard(self._temporary / self.shard, self.parts)
                _sync([self._temporary / self.shard])
            if self.owns_folder:
                self._write_rest()
        except (OSError, SafetensorError) as problem:
            why = getattr(problem, "strerror", None) or reason(problem)
            raise TrainingError(
                f"{self._final}: cannot write the checkpoint ({why}); earlier checkpoints are intact: make room, then "
                f"{how_to_go_on(self.run)}"
            ) from None

    def _write_rest(self) -> None:
        copy_tokenizer(self.tokenizer, self._temporary)
        if self.model_state is None:
            self.model.config.save_pretrained(self._temporary)  # type: ignore[union-attr, operator]
        else:
            # transformers lets rank 0 alone write; here it is the first rank of each folder.
            self.model.should_save_on_this_rank = lambda is_main_process: True  # type: ignore[assignment]
            self.model.save_pretrained(self._temporary, state_dict=self.model_state)  # type: ignore[operator]
        write_json(self._temporary / STATE, {**self.state, "step": self.step, "version": STATE_VERSION})
        _sync(path for path in self._temporary.iterdir() if not path.name.startswith("shard-"))

    def publish(self) -> None:
        """Give it its name, and remove the oldest."""
        if self.owns_folder:
            _discard(self._final)
            self._temporary.rename(self._final)
            for old in resumable(self.run)[: -self.keep] if self.keep else []:
                _discard(old.folder)

    def discard(self) -> None:
        """Remove what has been written."""
        if self.owns_folder:
            shutil.rmtree(self._temporary, ignore_errors=True)


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


def restore_model(model: nn.Module, shards: Shards) -> None:
    """Put back the parameters that the shards hold.

    Raises:
        TrainingError: names or shapes aren't the model's.
    """
    tensors = dict(model_tensors(model))
    found, shapes = shards.below(MODEL), {name: tensor.shape for name, tensor in tensors.items()}
    if found != shapes:
        raise TrainingError(f"{shards.folder}: not the model of its config.json: {_odd(found, shapes)}")
    for name, tensor in tensors.items():
        shards.fill(MODEL + name, tensor)


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, shards: Shards) -> None:
    """Put back what `optimizer_tensors` gave, of what is sharded each rank's part.

    Raises:
        TrainingError: names or shapes aren't the model's.
    """
    parameters = {plain_name(name): parameter for name, parameter in model.named_parameters()}
    found = shards.below(OPTIMIZER)
    if problem := _misfit(found, {name: parameter.shape for name, parameter in parameters.items()}):
        raise TrainingError(f"{shards.folder}: {problem}; delete it and resume")
    for key, shape in found.items():
        name, _, slot = key.rpartition("/")
        like = parameters[name].detach()
        value = torch.empty_like(like) if len(shape) else torch.empty((), device=like.device)  # the count of steps
        optimizer.state[parameters[name]][slot] = shards.fill(OPTIMIZER + key, value)


def _misfit(optimizer: Mapping[str, torch.Size], shapes: Mapping[str, torch.Size]) -> str | None:
    """What of an optimizer's tensors belongs to no parameter; the count of steps has no shape."""
    for key, shape in optimizer.items():
        expected = shapes.get(key.rpartition("/")[0])
        if expected is None:
            return f"{key} belongs to no tensor of the model"
        if shape and shape != expected:
            return f"{key} is {tuple(shape)}, expected {tuple(expected)}"
    return None


def _odd(found: Mapping[str, torch.Size], shapes: Mapping[str, torch.Size]) -> str:
    """How many names or shapes aren't the model's, and one of them."""
    odd = sorted(name for name in {*found, *shapes} if found.get(name) != shapes.get(name))
    return f"{len(odd)} of {len({*found, *shapes})} tensors aren't as the model has them, such as {odd[0]}"


def check_tensors(
    run: Path, step: int, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
) -> None:
    """Refuse to write what could not be read again: a reader would start what is missing afresh.

    Args:
        run: its folder.
        step: optimizer steps done.
        model: by `model_tensors`.
        optimizer: by `optimizer_tensors`.
        shapes: what these have to be, by `shapes_of` the model before anything wrapped it.

    Raises:
        TrainingError: they are not.
    """
    found = {name: tensor.shape for name, tensor in model.items()}
    problem = _misfit({name: tensor.shape for name, tensor in optimizer.items()}, shapes)
    if found != shapes:
        problem = _odd(found, shapes)
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


def _sync(paths: Iterable[Path]) -> None:
    """Have the disk hold every file before the folder gets its name."""
    for path in paths:
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
