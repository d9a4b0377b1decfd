"""The settings of one training run.

They travel as JSON from the command to the worker and stand in the run's `run.json`. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from toremi_cli.layout import Workdir
from toremi_cli.policy_config import TOPIC_MODES, PolicyConfig
from toremi_cli.runs.record import RUNTIME_FIELDS
from toremi_cli.settings import Setting, settings_of, to_toml
from toremi_cli.train.shapes import FALLBACK, PRESETS, Preset

PAPER: dict[str, Any] = {"policy": {"name": "toremi-2"}, "topics": "labels", "loss_average": "sample"}
"""The paper's form, where the defaults are what we recommend."""

_MODEL, _POLICY, _LENGTH, _OPTIMIZER, _RUN, _MACHINE = (
    "Model",
    "Reweighting",
    "Length and batch",
    "Optimizer",
    "Run folder",
    "Machine",
)


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    workdir: Annotated[str, Setting("Folder of all tables and runs.", flag="--workdir -w", metavar="DIR")] = (
        "toremi-out"
    )

    model: Annotated[
        str,
        Setting(f"{', '.join(PRESETS)}, or the path of a transformers config.", _MODEL),
    ] = "1m"
    init_from: Annotated[
        str | None,
        Setting("Checkpoint to continue from, with a fresh optimizer.", _MODEL, metavar="DIR", none="none"),
    ] = None
    context_length: Annotated[int | None, Setting("Tokens a row.", _MODEL, least=1, unset="the preset's")] = None
    mask_documents: Annotated[bool, Setting("Let tokens see only those of their own sample.", _MODEL, rare=True)] = (
        False
    )
    annotated: Annotated[
        str | None, Setting("Table to train on.", _MODEL, metavar="PATH", unset="the workdir's", rare=True)
    ] = None
    tokens: Annotated[
        str | None,
        Setting(
            "Tokens made elsewhere: by tokenize -o, also at s3://; or a Megatron dataset, or numpy shards.",
            _MODEL,
            metavar="PATH",
            unset="of the table",
            rare=True,
        ),
    ] = None
    cache_gb: Annotated[
        float, Setting("GB that each machine keeps of the tokens at a URL.", _MACHINE, least=0, rare=True)
    ] = 100.0
    tokenizer: Annotated[
        str | None, Setting("Folder of the tokenizer.", _MODEL, metavar="DIR", unset="the workdir's", rare=True)
    ] = None

    policy: Mapping[str, Any] = field(default_factory=lambda: {"name": PolicyConfig.name})
    """Its name and settings: see `policy_config.policy_settings`."""
    topics: Annotated[
        str,
        Setting(
            "What a sample's topics are",
            _POLICY,
            choices=TOPIC_MODES,
        ),
    ] = "fine"
    loss_average: Annotated[
        str, Setting("What the step's loss is a mean over", _POLICY, choices=("token", "sample"), rare=True)
    ] = "token"
    interval: Annotated[
        int | None,
        Setting("Steps between two updates of the weights.", _POLICY, least=1, unset="80 updates"),
    ] = None
    sensitivity: Annotated[bool, Setting("Measure gradient sensitivity by topic.", _POLICY, rare=True)] = False
    reference_losses: Annotated[
        str | None,
        Setting(
            "Another run's weights table: its losses, for group-dro and shearing.",
            _POLICY,
            metavar="PATH",
            none="none",
            rare=True,
        ),
    ] = None
    weights_from: Annotated[
        str | None,
        Setting(
            "Weights for frozen: another run's table, or any of topic and weight.",
            _POLICY,
            metavar="PATH",
            none="none",
            rare=True,
        ),
    ] = None

    max_steps: Annotated[int | None, Setting("Optimizer steps.", _LENGTH, least=1, none="none", unset="one epoch")] = (
        None
    )
    max_tokens: Annotated[int | None, Setting("Length in tokens instead.", _LENGTH, least=1, none="none")] = None
    epochs: Annotated[
        float | None, Setting("Length in passes over the corpus instead.", _LENGTH, above=0, none="none")
    ] = None
    batch_size: Annotated[
        int | None, Setting("Rows a step, all processes together.", _LENGTH, least=1, unset="the preset's")
    ] = None
    batch_tokens: Annotated[int | None, Setting("The same in tokens.", _LENGTH, least=1, none="none", rare=True)] = None
    micro_batch: Annotated[
        int | None,
        Setting(
            "Rows of a micro-step on each process; gradients of a step's micro-steps accumulate.",
            _LENGTH,
            metavar="ROWS",
            least=1,
            unset="as memory allows",
            rare=True,
        ),
    ] = None
    """On a GPU, `auto` is found by trying: see `train/finding.py`."""

    optimizer: Annotated[
        str,
        Setting("auto is muon for shapes by size, else adamw", _OPTIMIZER, choices=("auto", "adamw", "muon")),
    ] = "auto"
    """Muon is for hidden matrices; AdamW has the rest. What AdamW has trained before goes on with it."""
    learning_rate: Annotated[float | None, Setting("AdamW's peak.", _OPTIMIZER, least=0, unset="by the model")] = None
    muon_learning_rate: Annotated[
        float | None,
        Setting("Muon's peak, of updates as large as AdamW's.", _OPTIMIZER, least=0, unset="AdamW's", rare=True),
    ] = None
    min_learning_rate: Annotated[
        float,
        Setting("Where the decay ends, as a fraction of the peak.", _OPTIMIZER, least=0, most=1, rare=True),
    ] = 0.1
    schedule: Annotated[
        str,
        Setting(
            "After the warm-up; wsd is stable, then decays", _OPTIMIZER, choices=("cosine", "linear", "wsd", "constant")
        ),
    ] = "cosine"
    decay_fraction: Annotated[
        float, Setting("Which part of the run decays under wsd.", _OPTIMIZER, least=0, most=1, rare=True)
    ] = 0.2
    decay_from: Annotated[
        str | None,
        Setting(
            "Decay from that run's last checkpoint at the peak, or from RUN/checkpoint-N.",
            _OPTIMIZER,
            metavar="RUN",
            none="none",
        ),
    ] = None
    warmup_steps: Annotated[
        int | None,
        Setting("Steps of linear warm-up.", _OPTIMIZER, least=0, unset="5%, at most the preset's", rare=True),
    ] = None
    weight_decay: Annotated[
        float, Setting("Decoupled weight decay, on matrices only.", _OPTIMIZER, least=0, rare=True)
    ] = 0.1
    beta1: Annotated[float, Setting("AdamW's decay of the first moment.", _OPTIMIZER, least=0, below=1, rare=True)] = (
        0.9
    )
    beta2: Annotated[float, Setting("AdamW's decay of the second moment.", _OPTIMIZER, least=0, below=1, rare=True)] = (
        0.95
    )
    grad_clip: Annotated[
        float | None, Setting("Largest norm of the gradient.", _OPTIMIZER, above=0, none="none", rare=True)
    ] = 1.0
    precision: Annotated[
        str,
        Setting(
            "Of the arithmetic; auto is bf16 where the GPU has it",
            _OPTIMIZER,
            choices=("auto", "bf16", "tf32", "fp32"),
            rare=True,
        ),
    ] = "auto"
    """Where a GPU only emulates bf16 (V100, T4), `auto` is fp32."""

    name: Annotated[str | None, Setting("Name of the run.", _RUN, flag="--name -n", unset="the policy's")] = None
    seed: Annotated[int, Setting("Seed of every random stream.", _RUN, least=0, most=2**32 - 1)] = 0
    eval_every: Annotated[
        int | None,
        Setting("Steps between evaluations.", _RUN, least=1, unset="a tenth of the time", rare=True),
    ] = None
    """At least five in a run, and whole intervals apart."""
    eval_samples: Annotated[
        int, Setting("Validation samples a source, at most; 0: no evaluation.", _RUN, least=0, rare=True)
    ] = 32
    checkpoint_every: Annotated[int, Setting("Steps between checkpoints.", _RUN, least=1, rare=True)] = 500
    keep_checkpoints: Annotated[
        int | None, Setting("How many of the newest stay.", _RUN, least=1, none="all", rare=True)
    ] = 2
    async_checkpoint: Annotated[bool, Setting("Train on while a checkpoint is written.", _RUN, rare=True)] = False
    """Each rank then keeps a copy of what it writes in the machine's memory."""
    log_every: Annotated[int, Setting("Steps between logged losses.", _RUN, least=1, rare=True)] = 10
    log_with: Annotated[
        str | None,
        Setting(
            "Tracker that gets the metrics, too",
            _RUN,
            choices=("tensorboard", "wandb", "trackio"),
            none="none",
            rare=True,
        ),
    ] = None

    gpus: Annotated[int | None, Setting("GPUs of this machine; 0: the CPU.", _MACHINE, least=0, none="all")] = None
    processes: Annotated[int, Setting("Processes where there is no GPU.", _MACHINE, least=1, rare=True)] = 1
    rank_timeout: Annotated[
        float, Setting("Minutes that a process waits for the others.", _MACHINE, above=0, rare=True)
    ] = 120.0
    compile: Annotated[
        bool | None,
        Setting("Compile the model with torch.compile.", _MACHINE, unset="on a GPU, where it pays", rare=True),
    ] = None
    gradient_checkpointing: Annotated[
        bool, Setting("Less memory for activations, a third more work.", _MACHINE, rare=True)
    ] = False
    chunked_loss: Annotated[
        bool, Setting("Never hold all logits in memory; the head runs twice.", _MACHINE, rare=True)
    ] = False
    accelerate_config: Annotated[
        str | None,
        Setting(
            "A config file of accelerate (FSDP, several machines).", _MACHINE, metavar="FILE", none="none", rare=True
        ),
    ] = None

    quiet: bool = False
    """No progress and notes."""
    debug: bool = False
    """Full tracebacks."""

    @property
    def preset(self) -> Preset:
        """Shape and defaults that belong to the model."""
        return PRESETS.get(self.model, FALLBACK) if not self.init_from else FALLBACK

    @property
    def uses_muon(self) -> bool:
        """Whether hidden matrices are Muon's."""
        return self.optimizer == "muon" or (self.optimizer == "auto" and self.preset.is_modern)

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

    def to_toml(self) -> str:
        """As a config file: `toremi pretrain --config` repeats the run."""
        specs = settings_of(PolicyConfig)
        policy = {key: specs[key].written(value) if key in specs else value for key, value in self.policy.items()}
        return to_toml(self, policy=policy)

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
    before, after = TrainConfig.from_json(old), new
    for name, spec in settings_of(TrainConfig).items():
        a, b = spec.written(getattr(before, name)), spec.written(getattr(after, name))
        if a != b and name not in RUNTIME_FIELDS:
            found.append(f"{name} was {a}, is {b}")
    a, b = before.policy, after.policy
    found += [f"{key} was {a.get(key)}, is {b.get(key)}" for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    return found
