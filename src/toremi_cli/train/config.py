"""The settings of one training run.

They travel as JSON from the command to the worker and stand in the run's `run.json`. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from toremi_cli.errors import UsageError
from toremi_cli.layout import Workdir
from toremi_cli.policy_list import POLICY_LIST
from toremi_cli.runs.record import RUNTIME_FIELDS
from toremi_cli.sample_topics import TOPIC_MODES
from toremi_cli.train.accelerate_config import read_accelerate_config

AUTO = "auto"
SCHEDULES = ("cosine", "linear", "constant")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
LOSS_AVERAGES = ("sample", "token")
TRACKERS = ("tensorboard", "wandb", "trackio")


@dataclass(frozen=True)
class Preset:
    """A GPT-2 shape with settings that suit it."""

    num_layers: int
    num_heads: int
    width: int
    context_length: int
    """Tokens a row."""
    batch_size: int
    """Rows a step, over all ranks and micro-steps."""
    learning_rate: float
    """Peak learning rate."""


PRESETS = {
    "tiny": Preset(3, 4, 128, 256, 8, 2e-3),
    "small": Preset(6, 5, 320, 512, 32, 1e-3),
    "gpt2": Preset(12, 12, 768, 1024, 480, 6e-4),
    "gpt2-medium": Preset(24, 16, 1024, 1024, 480, 3e-4),
    "gpt2-large": Preset(36, 20, 1280, 1024, 480, 2.5e-4),
    "gpt2-xl": Preset(48, 25, 1600, 1024, 480, 2e-4),
}
"""`--model` names. The vocabulary is the corpus's, padded to a multiple of 64."""
FALLBACK = Preset(0, 0, 0, 1024, 64, 3e-4)
"""Row length and batch for a model that is no preset, and the largest learning rate for one that is trained already."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Zero or empty means: chosen by the model's preset or by what the machine has."""

    workdir: str = "toremi-out"
    """Folder of all tables and runs."""
    annotated: str = ""
    """Table `annotated` to train on; empty: the one in the workdir."""
    tokenizer: str = ""
    """Folder of the tokenizer in Hugging Face layout; empty: the one in the workdir."""
    name: str = ""
    """Name of the run; empty: the policy's name."""

    model: str = "tiny"
    """A preset, or the path of a transformers config (config.json or its folder) to train from scratch."""
    init_from: str = ""
    """Checkpoint folder to continue from with a fresh optimizer; empty: from scratch."""
    context_length: int = 0
    """Tokens a row."""

    topics: str = "labels"
    """What a sample's topics are: its `labels`, the one `fine` topic, the `soft` mixture, or its `source`."""
    policy: Mapping[str, Any] = field(default_factory=lambda: {"name": "toremi-2"})
    """Settings of the reweighting policy (`reweight.config.PolicyConfig`)."""
    interval: int = 0
    """Steps between two updates of the topic weights; 0: as many as make 80 updates."""
    loss_average: str = "sample"
    """The step's loss: mean over samples (ToReMi), or over tokens, each times its sample's weight."""
    mask_documents: bool = False
    """Let the tokens of a row see those of their own sample only."""

    sensitivity: bool = False
    """Measure gradient sensitivity: the norm of the gradient at the last hidden state, by topic, into `metrics`."""
    reference_losses: str = ""
    """Table of topic losses (a run's `weights`) whose last tenth gives each topic's reference or target loss, in nats
    a token."""
    weights_from: str = ""
    """Table `weights` of another run, for policy `frozen`."""

    batch_size: int = 0
    """Rows a step, over all ranks and micro-steps."""
    batch_tokens: int = 0
    """Tokens a step, instead of `batch_size`."""
    grad_accumulation: int = 0
    """Micro-steps a step; 0: as many as fit a GPU's memory by an estimate; on the CPU, as keep a micro-step's logits
    below a gigabyte, or, with `chunked_loss`, its activations below 16."""
    max_steps: int = 0
    """Optimizer steps to train for."""
    max_tokens: int = 0
    """Tokens to train for, instead of `max_steps`."""
    epochs: float = 0.0
    """Passes over the training samples, instead of `max_steps`; one where none of the three is given."""

    learning_rate: float = 0.0
    """Peak learning rate; 0: the preset's, or by the model's width."""
    min_learning_rate: float = 0.1
    """Where the decay ends, as a fraction of the peak."""
    schedule: str = "cosine"
    """Decay after the warm-up: cosine, linear or constant."""
    warmup_steps: int = -1
    """Steps of linear warm-up; -1: 5% of all, at most 500."""
    weight_decay: float = 0.1
    """Decoupled weight decay, on matrices only."""
    beta1: float = 0.9
    """AdamW's decay of the first moment."""
    beta2: float = 0.95
    """AdamW's decay of the second moment."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; 0: no clipping."""
    precision: str = "auto"
    """`bf16` autocast; `fp32`, strictly; `tf32`: fp32 whose matrix products a GPU rounds to TF32; `auto`: bf16 where a
    GPU has it, not where it only emulates it (V100, T4)."""
    compile: bool = False
    """Compile the model with torch.compile."""
    gradient_checkpointing: bool = False
    """Keep fewer activations and compute them again in the backward pass."""
    chunked_loss: bool = False
    """Never hold all logits in memory: the same losses, some tokens at a time; the head's forward pass runs twice."""

    eval_every: int = 0
    """Steps between two evaluations on the validation split; 0: the fewest intervals with which all evaluations take
    at most a tenth of the training's time, but at least five evaluations."""
    eval_samples: int = 32
    """Validation samples a source in such an evaluation, at most; 0: none at all."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; the last step always leaves one."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay; 0: all."""
    log_every: int = 10
    """Steps between two logged training losses."""
    seed: int = 0
    """Seed of every random stream of the run."""

    gpus: int = -1
    """GPUs on this machine; -1: every one there is; 0: train on the CPU."""
    processes: int = 1
    """Processes where there is no GPU."""
    rank_timeout: float = 120.0
    """Minutes that a process waits for the others, such as for the first one to write a checkpoint."""
    accelerate_config: str = ""
    """A config file of accelerate (FSDP, several machines), passed through."""
    log_with: str = ""
    """Tracker of accelerate that also gets the metrics: tensorboard, wandb, trackio; empty: none."""
    quiet: bool = False
    """No progress and notes."""
    debug: bool = False
    """Full tracebacks."""

    @property
    def preset(self) -> Preset:
        """Shape and defaults that belong to the model."""
        return PRESETS.get(self.model, FALLBACK) if not self.init_from else FALLBACK

    @property
    def run_name(self) -> str:
        """Name of the run's folder."""
        return self.name or str(self.policy["name"])

    @property
    def annotated_path(self) -> Path:
        """The table that the run trains on."""
        return Path(self.annotated) if self.annotated else Workdir(Path(self.workdir)).annotated

    @property
    def tokenizer_path(self) -> Path:
        """Folder of its tokenizer."""
        return Path(self.tokenizer) if self.tokenizer else Workdir(Path(self.workdir)).tokenizer

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "policy": dict(self.policy)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """From plain values; unknown ones (of another version) are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


def differences(old: Mapping[str, Any], new: TrainConfig) -> list[str]:
    """What differs between a run's settings and new ones, in words, runtime settings left out."""
    found = []
    before, after = TrainConfig.from_json(old).to_json(), new.to_json()
    for key in sorted(set(before) - RUNTIME_FIELDS):
        if key == "policy":
            a, b = before[key], after[key]
            found += [f"{k} was {a.get(k)}, is {b.get(k)}" for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
        elif before[key] != after[key]:
            found.append(f"{key} was {before[key]}, is {after[key]}")
    return found


def check_config(config: TrainConfig) -> None:
    """Refuse settings that cannot work, before anything heavy starts.

    Raises:
        UsageError: names the flag, what it holds and what it may hold.
    """
    _check_choice("--policy", str(config.policy["name"]), tuple(POLICY_LIST))
    _check_choice("--topics", config.topics, TOPIC_MODES)
    _check_choice("--schedule", config.schedule, SCHEDULES)
    _check_choice("--precision", config.precision, PRECISIONS)
    _check_choice("--loss-average", config.loss_average, LOSS_AVERAGES)
    _check_choice("--log-with", config.log_with, ("", *TRACKERS))
    _check_numbers(config)
    if config.batch_size and config.batch_tokens:
        raise UsageError("--batch-size and --batch-tokens: give one of the two")
    if sum(bool(v) for v in (config.max_steps, config.max_tokens, config.epochs)) > 1:
        raise UsageError("--max-steps, --max-tokens and --epochs: give one of the three")
    if config.interval < 0 or config.log_every < 1 or config.checkpoint_every < 1:
        raise UsageError("--interval, --log-every and --checkpoint-every: expected at least 1 step")
    if config.processes < 1:
        raise UsageError(f"--processes {config.processes}: must be at least 1")
    if config.init_from and not (Path(config.init_from) / "config.json").is_file():
        raise UsageError(f"--init-from {config.init_from}: no config.json there; expected a checkpoint folder")
    if config.model not in PRESETS and not config.init_from and model_config_path(config.model) is None:
        raise UsageError(
            f"--model {config.model}: neither a preset ({', '.join(PRESETS)}) nor the path of a transformers config"
        )
    _check_accelerate_config(config)
    if not config.run_name or "/" in config.run_name or config.run_name.startswith("."):
        raise UsageError(f"--name {config.run_name!r}: must be a plain folder name")


def _check_numbers(config: TrainConfig) -> None:
    """Refuse what would train backwards or not at all; a comparison with nan is false, so that it is refused, too."""
    ranges = (
        ("--learning-rate", config.learning_rate, 0 <= config.learning_rate < math.inf, "a number of at least 0"),
        ("--min-learning-rate", config.min_learning_rate, 0 <= config.min_learning_rate <= 1, "between 0 and 1"),
        ("--warmup-steps", config.warmup_steps, config.warmup_steps >= -1, "a number of steps, or -1"),
        ("--weight-decay", config.weight_decay, 0 <= config.weight_decay < math.inf, "a number of at least 0"),
        ("--beta1", config.beta1, 0 <= config.beta1 < 1, "at least 0 and below 1"),
        ("--beta2", config.beta2, 0 <= config.beta2 < 1, "at least 0 and below 1"),
        ("--grad-clip", config.grad_clip, 0 <= config.grad_clip < math.inf, "a number of at least 0"),
        ("--epochs", config.epochs, 0 <= config.epochs < math.inf, "a number of at least 0"),
        ("--rank-timeout", config.rank_timeout, 0 < config.rank_timeout < math.inf, "a number of minutes above 0"),
        ("--seed", config.seed, 0 <= config.seed < 2**32, "between 0 and 4294967295"),
    )
    for flag, found, ok, expected in ranges:
        if not ok:
            raise UsageError(f"{flag} {found}: expected {expected}")


def _check_accelerate_config(config: TrainConfig) -> None:
    """Refuse a file that accelerate's launcher could not read, and flags that say otherwise than the file."""
    if not config.accelerate_config:
        return
    found = read_accelerate_config(config.accelerate_config)
    for flag, value, given in (
        ("--gpus", config.gpus, config.gpus > 0),
        ("--processes", config.processes, config.processes > 1),
    ):
        if given:
            raise UsageError(
                f"{flag} {value}: with --accelerate-config the file says how many ranks there are (num_processes: "
                f"{found.get('num_processes')}); leave {flag} out"
            )


def resolve_auto(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flags with `auto` replaced by what the policy was made for, so that a run's record holds the settings themselves.

    `--topics`: the paper's policies weigh labels, all others were measured with the fine topics. `--stage-switch`: the
    paper waits for a plateau.
    """
    policy = dict(values["policy"])
    acting = policy.get("of") if policy["name"] == "shuffled-topics" else policy["name"]
    if policy.get("stage_switch") == AUTO:
        policy["stage_switch"] = "plateau"
    resolved = {**values, "policy": policy}
    if values.get("topics") == AUTO:
        resolved["topics"] = "labels" if acting in ("toremi-1", "toremi-2") else "fine"
    return resolved


def model_config_path(model: str) -> Path | None:
    """The config.json that `--model PATH` names, None if there is none."""
    path = Path(model)
    if path.is_dir():
        path = path / "config.json"
    return path if path.is_file() else None


def _check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{flag} {value}: expected one of {', '.join(filter(None, choices))}")
