"""Loading a checkpoint: its model by transformers, its tokenizer by tokenizers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from toremi_cli.errors import TrainingError, UsageError, reason
from toremi_cli.layout import Workdir
from toremi_cli.lm.bf16 import warn_of_slow_bf16
from toremi_cli.lm.memory import reuse_freed_memory
from toremi_cli.lm.tokenizer import TextTokenizer, open_tokenizer
from toremi_cli.runs.checkpoints import Checkpoint
from toremi_cli.runs.run import Run

LONGEST_CONTEXT = 2048
"""Where a model allows more and nothing says what it was trained with: beyond it, memory grows and losses don't."""


@dataclass(frozen=True)
class Encoder:
    """Text to token ids, as the trainer does it: no special tokens added, none recognised in the text."""

    tokenizer: TextTokenizer
    eos_id: int
    fingerprint: str

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return self.tokenizer.ids(texts)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be measured."""

    model: Any
    encoder: Encoder
    context_length: int
    device: torch.device


def load(
    run: Run,
    checkpoint: Checkpoint,
    workdir: Workdir,
    device: str | None = None,
    context_length: int | None = None,
    precision: str = "fp32",
) -> LoadedModel:
    """Load a checkpoint with the tokenizer that lies in it, else the workdir's.

    Raises:
        UsageError: no such device, or one that lacks the precision.
        TrainingError: the checkpoint isn't whole, can't be loaded, or has no tokenizer.
    """
    checkpoint.check()
    place = _device(device or "")
    _check_precision(precision, place)
    encoder = _load_encoder(checkpoint.folder, workdir)
    if place.type == "cpu":
        reuse_freed_memory()
    model = load_model(checkpoint.folder, "AutoModelForCausalLM", "a causal LM").to(place).eval()
    if len_vocab(model) <= encoder.eos_id:
        raise TrainingError(
            f"{checkpoint.folder}: the model knows {len_vocab(model)} tokens, but its tokenizer's end-of-text token is "
            f"number {encoder.eos_id}; put the tokenizer it was trained with into the folder"
        )
    limit = int(getattr(model.config, "max_position_embeddings", 0) or LONGEST_CONTEXT)
    own = _trained_with(run) or min(limit, LONGEST_CONTEXT)
    if (context_length or 0) > limit:
        raise TrainingError(f"{checkpoint.folder}: reads at most {limit} tokens, not --context-length {context_length}")
    if precision == "bf16":  # parameters stay float32, as in training
        model.forward = torch.autocast(place.type, torch.bfloat16)(model.forward)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    return LoadedModel(model, encoder, context_length or own, place)


def _check_precision(precision: str, place: torch.device) -> None:
    if precision == "tf32" and place.type != "cuda":
        raise UsageError("--precision tf32: GPUs alone have it; use fp32")
    if precision == "bf16" and place.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError("--precision bf16: this GPU has no bf16; use fp32")
    if precision == "bf16":
        warn_of_slow_bf16(place)


def _device(name: str) -> torch.device:
    """The device so named; without a name the GPU if there is one."""
    has_gpu = torch.cuda.is_available()
    try:
        place = torch.device(name or ("cuda" if has_gpu else "cpu"))
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError):
        there = f"cpu, cuda:0 to cuda:{torch.cuda.device_count() - 1}" if has_gpu else "cpu: there is no GPU"
        raise UsageError(f"--device {name}: no device of this machine; expected {there}") from None
    return place


def _trained_with(run: Run) -> int:
    """Tokens a row in the run's training; 0 where unknown. The setting may be 0: then only the schedule tells."""
    record = run.record
    return int(record.get("schedule", {}).get("context_length") or record.get("config", {}).get("context_length") or 0)


def len_vocab(model: Any) -> int:
    """Number of tokens that the model has logits for."""
    return int(model.config.vocab_size)


def load_model(folder: Path, auto_class: str, kind: str, **settings: Any) -> Any:
    """A model in float32 by one of transformers' auto classes; `settings` go into its config.

    Raises:
        TrainingError: transformers can't make that `kind` of model of the folder; a language model lacks tensors.
    """
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        loader = getattr(transformers, auto_class)
        model, found = loader.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True, **settings
        )
    except Exception as problem:  # transformers and safetensors raise many kinds
        raise TrainingError(f"{folder}: transformers can't load it as {kind} ({reason(problem)})") from None
    finally:
        transformers.logging.set_verbosity(level)
    # transformers starts afresh what it doesn't find; of a language model all has to be there, of a classifier not.
    missing = sorted(found["missing_keys"]) if auto_class == "AutoModelForCausalLM" else []
    if missing:
        raise TrainingError(
            f"{folder}: not the model of its config.json: tensors missing ({len(missing)}), such as {missing[0]}"
        )
    return model


def _load_encoder(folder: Path, workdir: Workdir) -> Encoder:
    if not (folder / "tokenizer.json").is_file():
        slow = _slow_tokenizer(folder)
        if slow is not None:
            return slow
        folder = workdir.tokenizer
    found = open_tokenizer(folder)
    return Encoder(found.load(), found.eos_id, found.fingerprint)


def _slow_tokenizer(folder: Path) -> Encoder | None:
    """A tokenizer in an older layout (vocab.json and merges.txt, or a SentencePiece file)."""
    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.model", "spiece.model")):
        return None
    if not (folder / "vocab.json").is_file() and find_spec("sentencepiece") is None:
        raise TrainingError(
            f"{folder}: holds a sentencepiece model and no tokenizer.json; `pip install sentencepiece` lets it be read"
        )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    eos_id = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.bos_token_id
    if eos_id is None:
        raise TrainingError(f"{folder}: its tokenizer has no end-of-text token; name it in tokenizer_config.json")
    backend = tokenizer.backend_tokenizer
    return Encoder(TextTokenizer(backend), eos_id, hashlib.sha256(backend.to_str().encode()).hexdigest()[:16])
