"""The model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from toremi_cli.errors import TrainingError, UsageError, reason
from toremi_cli.lm.streams import derive_seed
from toremi_cli.runs.checkpoints import has_model, is_in_shards, what_is_wrong
from toremi_cli.train.check_config import model_config_path
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.shapes import PRESETS

VOCABULARY_MULTIPLE = 64
"""Matrix products are faster when the vocabulary is a multiple of this."""


def padded_vocabulary(vocab_size: int) -> int:
    """The next multiple of `VOCABULARY_MULTIPLE`."""
    return -(-vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def initializer_range(width: int) -> float:
    """Standard deviation of the initial matrices: GPT-2's 0.02 at its width of 768 and above, more in narrower models.

    A matrix product keeps its scale if the deviation falls with the square root of the width (Glorot & Bengio 2010);
    with 0.02 a narrow model starts so close to zero that it spends hundreds of steps on word frequencies alone.
    """
    return float(0.02 * max(1.0, (768 / width) ** 0.5))


def model_config(config: TrainConfig, vocab_size: int, eos_id: int) -> Any:
    """The transformers config of the model to train.

    Raises:
        UsageError: a config that transformers cannot read, or that cannot hold the vocabulary or the rows.
    """
    from transformers import AutoConfig

    if config.model in PRESETS and not config.init_from:
        preset = config.preset
        length = config.context_length or preset.context_length
        found = preset.transformers_config(length, initializer_range(preset.width))
        _take_vocabulary(found, vocab_size, eos_id)
        return found
    path = Path(config.init_from) if config.init_from else model_config_path(config.model)
    assert path is not None  # check_config has seen it
    try:
        found = AutoConfig.from_pretrained(path)
    except Exception as problem:  # transformers raises what it likes on a bad file
        raise UsageError(f"{path}: not a config that transformers can read ({reason(problem)})") from None
    if config.init_from:
        _check_vocabulary(config, found, vocab_size)
    else:
        for part in {id(part): part for part in (found, found.get_text_config())}.values():
            _take_vocabulary(part, vocab_size, eos_id)
    _check_positions(found, context_length_of(config, found))
    return found


def _take_vocabulary(shape: Any, vocab_size: int, eos_id: int) -> None:
    """Give a config the corpus' vocabulary: no id of its own one stays, since that means another token here.

    A padding id would also keep that token's embedding at zero; rows are packed, so that nothing is padded.
    """
    for name in shape.to_dict():
        if name.endswith(("_token_id", "_token_ids")) or name in ("suppress_tokens", "begin_suppress_tokens"):
            setattr(shape, name, None)
    shape.vocab_size = padded_vocabulary(vocab_size)
    shape.bos_token_id = shape.eos_token_id = eos_id


def _check_vocabulary(config: TrainConfig, found: Any, vocab_size: int) -> None:
    if found.vocab_size < vocab_size:
        raise UsageError(
            f"--init-from {config.init_from}: its vocabulary has {found.vocab_size} tokens, the corpus's tokenizer "
            f"{vocab_size}; annotate the corpus with the checkpoint's tokenizer (`toremi embed --tokenizer`)"
        )


def _check_positions(found: Any, context_length: int) -> None:
    most = getattr(found, "max_position_embeddings", None)
    if most is not None and context_length > most:
        raise UsageError(f"--context-length {context_length}: the model has {most} positions")


def context_length_of(config: TrainConfig, found: Any) -> int:
    """Tokens a row: as asked for, else the preset's, else the model's positions up to 1,024."""
    if config.context_length:
        return config.context_length
    most = getattr(found, "max_position_embeddings", None) or config.preset.context_length
    return min(int(most), config.preset.context_length)


def build_model(config: TrainConfig, shape: Any) -> nn.Module:
    """The model in float32: with seeded random parameters, or those of `init_from`."""
    from transformers import AutoModelForCausalLM

    if config.init_from:
        return load_checkpoint_model(Path(config.init_from))
    torch.manual_seed(derive_seed(config.seed, "init"))
    return AutoModelForCausalLM.from_config(shape, dtype=torch.float32)


def begin_model(config: TrainConfig, shape: Any, checkpoint: Path | None) -> nn.Module:
    """The model of a run that begins, or goes on from a checkpoint, whose shards may have the parameters to come.

    Raises:
        TrainingError: the checkpoint's model cannot be loaded.
    """
    if checkpoint is None:
        return build_model(config, shape)
    return load_checkpoint_model(checkpoint, exact=True) if has_model(checkpoint) else empty_model(checkpoint)


def empty_model(checkpoint: Path) -> nn.Module:
    """The model of a checkpoint's config.json, in float32, with parameters that mean nothing.

    Raises:
        TrainingError: no such model can be made.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        shape = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
        return AutoModelForCausalLM.from_config(shape, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as problem:
        raise TrainingError(f"{checkpoint}: cannot make the model ({reason(problem)})") from None


def load_checkpoint_model(folder: Path, exact: bool = False) -> nn.Module:
    """The model of a checkpoint folder, in float32; `exact`: the folder may hold nothing besides, either.

    Raises:
        TrainingError: the folder holds no whole model, or names and shapes of its tensors aren't those of its config.
    """
    from transformers import AutoModelForCausalLM

    if is_in_shards(folder):
        raise TrainingError(f"{folder}: {what_is_wrong(folder)}")
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, json.JSONDecodeError) as problem:
        raise TrainingError(f"{folder}: cannot load the model ({reason(problem)})") from None
    model, found = loaded
    # transformers starts afresh what it doesn't find, and only logs that.
    for what in ("missing", "unexpected") if exact else ("missing",):
        if odd := sorted(found[f"{what}_keys"]):
            raise TrainingError(
                f"{folder}: not the model of its config.json: tensors {what} ({len(odd)}), such as {odd[0]}"
            )
    return model


def count_parameters(shape: Any) -> int:
    """Parameters of the model of a transformers config, tied ones once; nothing is allocated."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCausalLM.from_config(shape).parameters())
