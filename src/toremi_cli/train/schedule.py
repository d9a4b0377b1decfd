"""How long a run is and its learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from toremi_cli.errors import UsageError
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.decaying import decay_step
from toremi_cli.train.shapes import FALLBACK, PRESETS


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
    interval: int
    """Steps between two updates of the weights."""
    eval_every: int
    """Steps between two evaluations."""
    muon_learning_rate: float
    """The peak for Muon's matrices."""
    kind: str = "cosine"
    """cosine, linear, wsd or constant."""
    floor: float = 0.1
    """Where the decay ends, as a fraction of the peak."""
    decay_steps: int = 0
    """Steps below the peak at the end of `wsd`."""

    @property
    def last_peak_step(self) -> int:
        """The last step at the peak learning rate, counted from 0."""
        warm = max(self.warmup_steps - 1, 0)
        if self.kind == "constant":
            return self.max_steps - 1
        return max(warm, self.max_steps - 1 - self.decay_steps) if self.kind == "wsd" else warm

    @property
    def batch_tokens(self) -> int:
        """Predicted tokens a step."""
        return self.batch_size * self.context_length

    @property
    def epochs(self) -> float:
        """Passes over the training samples in the whole run."""
        return self.max_steps * self.batch_tokens / self.epoch_tokens


UPDATES = 80
"""Of the weights, in the paper's run and in those of `docs/evidence.md`."""
EVALUATION_SHARE, FEWEST_EVALUATIONS = 0.1, 5
"""Of the time of training that evaluations may take, and how many there are in any case."""
FLOAT_BYTES = 4
BYTES_PER_PARAMETER = 16
"""float32 parameter, gradient and AdamW's two moments."""
LARGEST_LOGITS_BYTES = 2**30
"""On the CPU, where more rows at once are no faster."""
LARGEST_ACTIVATIONS_BYTES = 2**34
"""By `activation_floats`, which counts float32; half of it, or less, in bf16."""
USED_MEMORY = 0.6
"""Of what parameters and optimizer leave of a GPU: the rest is for casts, communication and fragmentation."""
LOGITS_COPIES = 3
"""Logits, their softmax, their gradient."""
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
    memory: int = 0,
    *,
    width: int = 0,
    eval_tokens: int = 0,
) -> Schedule:
    """Fill in what the config leaves open.

    Args:
        config: of the run.
        context_length: tokens a row.
        vocab_size: of the model, for the size of a micro-step's logits.
        epoch_tokens: predicted tokens of one pass over the training samples.
        world_size: number of ranks.
        token_activations: by `activation_floats`.
        memory: bytes of a GPU beside parameters and optimizer; 0 on the CPU.
        width: of the model.
        eval_tokens: predicted tokens of an evaluation.

    Raises:
        UsageError: fewer rows a step than ranks and micro-steps.
    """
    batch_size = config.batch_size or (config.batch_tokens or 0) // context_length or config.preset.batch_size
    if config.batch_tokens and config.batch_tokens < context_length:
        raise UsageError(f"--batch-tokens {config.batch_tokens}: less than one row of {context_length} tokens")
    most_rows = max(_most_tokens(config, vocab_size, token_activations, memory) // context_length, 1)
    if config.micro_batch is None:  # an estimate, which asks for no more micro-steps than there are rows
        fewest = math.ceil(batch_size / world_size) / max(batch_size // world_size, 1)
        most_rows = max(most_rows, math.ceil(fewest))
    num_micro_steps = count_micro_steps(batch_size, world_size, config.micro_batch or most_rows)
    batch_tokens = batch_size * context_length
    if config.max_steps:
        max_steps = config.max_steps
    elif config.max_tokens:
        max_steps = max(config.max_tokens // batch_tokens, 1)
    else:
        max_steps = max(int((config.epochs or 1.0) * epoch_tokens / batch_tokens), 1)
    warmup_steps = config.warmup_steps
    if warmup_steps is None:
        warmup_steps = min(math.ceil(0.05 * max_steps), config.preset.most_warmup)
    interval = config.interval or max(max_steps // UPDATES, 1)
    begun = decay_step(config.decay_from) if config.decay_from else 0
    if begun and begun >= max_steps:
        raise UsageError(
            f"--decay-from {config.decay_from}: has {begun} steps, the whole run {max_steps}; expected more"
        )
    decay_steps = max_steps - begun if config.decay_from else round(config.decay_fraction * max_steps)
    learning_rate, muon = config.learning_rate, config.muon_learning_rate  # 0 is a rate
    if learning_rate is None:
        learning_rate = default_learning_rate(config, width)
    return Schedule(
        context_length=context_length,
        batch_size=batch_size,
        num_micro_steps=num_micro_steps,
        max_steps=max_steps,
        warmup_steps=warmup_steps,
        learning_rate=learning_rate,
        epoch_tokens=epoch_tokens,
        interval=interval,
        eval_every=config.eval_every or _evaluation_steps(max_steps, interval, batch_tokens, eval_tokens),
        muon_learning_rate=learning_rate if muon is None else muon,
        kind=config.schedule,
        floor=config.min_learning_rate,
        decay_steps=decay_steps,
    )


def count_micro_steps(batch_size: int, world_size: int, micro_batch: int) -> int:
    """Micro-steps a step, of `micro_batch` rows at most on each of the ranks.

    Raises:
        UsageError: more of them than the rank with the fewest rows has rows.
    """
    found = math.ceil(math.ceil(batch_size / world_size) / micro_batch)
    if batch_size < world_size * found:
        raise UsageError(
            f"--batch-size {batch_size} rows a step: fewer than {world_size} processes x {found} micro-steps; use "
            f"{world_size * found} or more rows, or a larger --micro-batch"
        )
    return found


def default_learning_rate(config: TrainConfig, width: int) -> float:
    """The preset's peak; for another model, by its width: on the lines between GPT-2's presets, in logarithms.

    Wider ones follow GPT-3's table (arXiv 2005.14165, table 2.1), about width^-0.6; narrower ones width^-1, to 0.01.
    One that is trained already gets 3e-4 at most.
    """
    if config.preset.width or not width:
        return config.preset.learning_rate
    known = sorted((p.width, p.learning_rate) for name, p in PRESETS.items() if name.startswith("gpt2"))
    (narrowest, high), (widest, low) = known[0], known[-1]
    if width < narrowest:
        rate = min(high * narrowest / width, 0.01)
    elif width > widest:
        rate = low * (widest / width) ** 0.6
    else:
        rate = math.exp(np.interp(math.log(width), *np.log(known).T))
    rate = float(f"{rate:.2g}")
    return min(rate, FALLBACK.learning_rate) if config.init_from else rate


def _evaluation_steps(max_steps: int, interval: int, batch_tokens: int, eval_tokens: int) -> int:
    """Steps between evaluations: whole intervals, as few as `EVALUATION_SHARE` allows."""
    updates = max(max_steps // interval, 1)
    # A forward pass is a third of a training step's work.
    affordable = int(EVALUATION_SHARE * max_steps * batch_tokens * 3 / max(eval_tokens, 1))
    number = min(max(affordable, FEWEST_EVALUATIONS), updates)
    return interval * -(-updates // number)


def _most_tokens(config: TrainConfig, vocab_size: int, activations: int, memory: int) -> int:
    """Tokens of a micro-step at most."""
    if memory:
        floats = activations + (0 if config.chunked_loss else LOGITS_COPIES * vocab_size)
        return int(USED_MEMORY * memory) // (floats * FLOAT_BYTES)
    by_logits = LARGEST_LOGITS_BYTES // (vocab_size * FLOAT_BYTES)
    if config.chunked_loss and activations:
        return max(by_logits, LARGEST_ACTIVATIONS_BYTES // (activations * FLOAT_BYTES))
    return by_logits


def fraction_of_peak(step: int, schedule: Schedule) -> float:
    """The learning rate of step `step` (0 is the first) over its peak.

    Exactly 1 at the last step of the warm-up, or at the first where there is none, and exactly `floor` at the last step
    of a schedule that decays. Cosine and linear decay from the one to the other; `wsd` (warm-up, stable, decay; arXiv
    2404.06395, linear as in arXiv 2405.18392) stays at the peak and falls over the last `decay_steps`.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    last = schedule.max_steps - 1
    peak = schedule.last_peak_step
    if step <= peak or schedule.kind == "constant":
        return 1.0
    left = (last - step) / (last - peak)
    if schedule.kind == "cosine":
        left = 0.5 * (1 - math.cos(math.pi * left))
    return schedule.floor + (1 - schedule.floor) * left
