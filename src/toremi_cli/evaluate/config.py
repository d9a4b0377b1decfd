"""The settings of `toremi eval`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from toremi_cli.errors import UsageError
from toremi_cli.settings import Setting, problem_of

_TEXT, _TASKS, _MODEL, _TUNING = "What is measured", "Tasks", "Model", "Fine-tuning"


@dataclass(frozen=True)
class EvalConfig:
    """What to measure, on which text, with which of the runs' checkpoints."""

    runs: tuple[str, ...] = ()
    """Names in the workdir, or paths; none: every finished run."""
    checkpoint: Annotated[str, Setting("Which checkpoints of each run.", _MODEL, metavar="last|all|N")] = "last"
    split: Annotated[str, Setting("Held-out split of the annotated corpus", _TEXT, choices=("test", "validation"))] = (
        "test"
    )
    data: Annotated[
        str | None,
        Setting("Another corpus instead; each of its sources is a domain.", _TEXT, metavar="CORPUS", none="none"),
    ] = None
    suite: Annotated[
        str | None,
        Setting("A suite of domains instead (TOML, YAML); 'paloma'.", _TEXT, metavar="FILE|NAME", none="none"),
    ] = None
    topics: Annotated[str, Setting("Numbers by topic, too", _TEXT, choices=("labels", "fine", "none"))] = "labels"
    noise: Annotated[bool, Setting("Judge runs on a table of `toremi corrupt` by its truth instead.", _TEXT)] = False
    tasks: Annotated[
        str | None,
        Setting("Downstream tasks instead of text: piqa,sciq,… or NAME=FILE.", _TASKS, metavar="NAME,…", none="none"),
    ] = None
    task_data: Annotated[
        str | None,
        Setting("Folder of the tasks' files (jsonl, csv, tsv, parquet).", _TASKS, metavar="DIR|URL", none="none"),
    ] = None
    limit: Annotated[int | None, Setting("Items of each task, at most.", _TASKS, least=1, none="all")] = None
    """Of each split, where it is fine-tuned on."""
    context_length: Annotated[int | None, Setting("Tokens read at once.", _MODEL, least=1, unset="as trained")] = None
    stride: Annotated[
        int | None,
        Setting("New tokens counted in each sliding window.", _MODEL, least=1, none="none", unset="disjoint windows"),
    ] = None
    batch_tokens: Annotated[int, Setting("Most tokens in a batch.", _MODEL, least=1)] = 16384
    device: Annotated[
        str | None,
        Setting("cpu, cuda, cuda:1; several share the text.", _MODEL, metavar="NAME,…", unset="all GPUs, else the CPU"),
    ] = None
    precision: Annotated[
        str, Setting("What matrices are multiplied in, fp32 strictly", _MODEL, choices=("fp32", "tf32", "bf16"))
    ] = "fp32"
    finetune: Annotated[
        str | None,
        Setting(
            "Fine-tune on GLUE tasks instead: cola, sst2, …, each with train and validation.",
            _TUNING,
            metavar="NAME,…",
            none="none",
        ),
    ] = None

    @property
    def devices(self) -> list[str]:
        """Those named."""
        return [name.strip() for name in (self.device or "").split(",")]

    @property
    def recorded_precision(self) -> str:
        """As it stands in the conditions: strict float32 goes without saying."""
        return "" if self.precision == "fp32" else self.precision


@dataclass(frozen=True)
class FinetuneSettings:
    """How a checkpoint is fine-tuned; the defaults are the paper's where it names them."""

    learning_rate: Annotated[
        float,
        Setting(
            "Peak learning rate; it falls linearly to zero.",
            _TUNING,
            flag="--finetune-lr",
            metavar="RATE",
            above=0,
            below=1,
        ),
    ] = 2e-5
    epochs: Annotated[
        int, Setting("Passes over the training examples.", _TUNING, flag="--finetune-epochs", least=1)
    ] = 3
    batch_size: Annotated[int, Setting("Examples a step.", _TUNING, flag="--finetune-batch", least=1)] = 32
    max_length: Annotated[
        int, Setting("Tokens of an example, at most.", _TUNING, flag="--finetune-length", least=8)
    ] = 128
    num_seeds: Annotated[
        int,
        Setting("Fine-tunings of each task; the result is their mean.", _TUNING, flag="--finetune-seeds", least=1),
    ] = 1
    """With seeds 0, 1, …: head, order and dropout differ."""

    def __post_init__(self) -> None:
        if problem := problem_of(self):
            raise UsageError(problem)


def check_config(config: EvalConfig) -> None:
    """Refuse settings that cannot work.

    Raises:
        UsageError: names the flag, what it holds and what it may hold.
    """
    if problem := problem_of(config):
        raise UsageError(problem)
    if sum(map(bool, (config.data, config.suite, config.tasks, config.finetune, config.noise))) > 1:
        raise UsageError("--data, --suite, --tasks, --finetune and --noise: give one of them")
    if config.checkpoint not in ("last", "all") and not config.checkpoint.removeprefix("checkpoint-").isdigit():
        raise UsageError(f"--checkpoint {config.checkpoint}: expected last, all or a step")
    if config.context_length and (config.stride or 0) > config.context_length:
        raise UsageError(f"--stride {config.stride}: must be at most the context length, {config.context_length}")
    if config.finetune and config.precision != "fp32":
        raise UsageError(f"--precision {config.precision}: --finetune trains in fp32; leave it out")
    if len(config.devices) > 1 and (config.tasks or config.finetune):
        raise UsageError(f"--device {config.device}: --tasks and --finetune use one device; name one")
