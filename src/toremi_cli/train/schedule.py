"""How long a run is and its learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from toremi_cli.errors import UsageError
from toremi_cli.train.config import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """The run's length and pace, worked out from config, data and number of ranks."""

    context_length: int
    """Tokens a row."""
    batch_size: int
    """Rows a step."""
    num_micro_steps: int
    """Micro-steps a step."""
    max_steps: int
    """Steps of the whole run."""
    warmup_steps: int
    """Steps of linear warm-up."""
    learning_rate: float
    """Its peak."""
    epoch_tokens: int
    """Predicted tokens of one pass over the training samples."""

    @property
    def batch_tokens(self) -> int:
        """Predicted tokens a step."""
        return self.batch_size * self.context_length

    @property
    def epochs(self) -> float:
        """Passes over the training samples in the whole run."""
        return self.max_steps * self.batch_tokens / self.epoch_tokens


FLOAT_BYTES = 4
LARGEST_LOGITS_BYTES = 2**30
LARGEST_ACTIVATIONS_BYTES = 2**34
"""By `activation_floats`, which counts float32; half of it, or less, in bf16."""
ACTIVATION_FLOATS = 34
"""Values kept for the backward pass for each token, layer and unit of width, attention scores left out (arXiv
2205.05198, table 2, without the score terms that fused attention doesn't keep)."""


def activation_floats(num_layers: int, width: int, checkpointing: bool) -> int:
    """Values a token that the backward pass needs of the layers; `checkpointing` keeps their inputs and one layer."""
    return width * (num_layers + ACTIVATION_FLOATS if checkpointing else num_layers * ACTIVATION_FLOATS)


def plan_schedule(
    config: TrainConfig,
    context_length: int,
    vocab_size: int,
    epoch_tokens: int,
    world_size: int,
    token_activations: int = 0,
) -> Schedule:
    """Fill in what the config leaves open.

    Args:
        config: of the run.
        context_length: tokens a row.
        vocab_size: of the model, for the size of a micro-step's logits.
        epoch_tokens: predicted tokens of one pass over the training samples.
        world_size: number of ranks.
        token_activations: by `activation_floats`; for the size of a micro-step that never holds its logits.

    Raises:
        UsageError: fewer rows a step than ranks and micro-steps.
    """
    batch_size = config.batch_size or config.batch_tokens // context_length or config.preset.batch_size
    if config.batch_tokens and config.batch_tokens < context_length:
        raise UsageError(f"--batch-tokens {config.batch_tokens}: less than one row of {context_length} tokens")
    most_rows = LARGEST_LOGITS_BYTES // (context_length * vocab_size * FLOAT_BYTES)
    if config.chunked_loss and token_activations:
        most_rows = max(most_rows, LARGEST_ACTIVATIONS_BYTES // (context_length * token_activations * FLOAT_BYTES))
    most_rows = max(most_rows, 1)
    num_micro_steps = config.grad_accumulation or math.ceil(batch_size / world_size / most_rows)
    if batch_size < world_size * num_micro_steps:
        raise UsageError(
            f"--batch-size {batch_size} rows a step: fewer than {world_size} processes x {num_micro_steps} micro-steps"
        )
    batch_tokens = batch_size * context_length
    if config.max_steps:
        max_steps = config.max_steps
    elif config.max_tokens:
        max_steps = max(config.max_tokens // batch_tokens, 1)
    else:
        max_steps = max(int((config.epochs or 1.0) * epoch_tokens / batch_tokens), 1)
    warmup_steps = config.warmup_steps if config.warmup_steps >= 0 else min(math.ceil(0.05 * max_steps), 500)
    return Schedule(
        context_length,
        batch_size,
        num_micro_steps,
        max_steps,
        warmup_steps,
        config.learning_rate or config.preset.learning_rate,
        epoch_tokens,
    )


def learning_rate(step: int, schedule: Schedule, kind: str, floor: float) -> float:
    """The learning rate of step `step` (0 is the first); `floor` is where the decay ends, as a fraction of the peak."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    if kind == "constant":
        return schedule.learning_rate
    done = (step - schedule.warmup_steps) / max(schedule.max_steps - schedule.warmup_steps, 1)
    left = 1 - done if kind == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return schedule.learning_rate * (floor + (1 - floor) * left)
