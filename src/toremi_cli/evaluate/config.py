"""The settings of `toremi eval`."""

from __future__ import annotations

from dataclasses import dataclass

from toremi_cli.errors import UsageError
from toremi_cli.schemas import TEST, VALIDATION

SPLITS = (TEST, VALIDATION)
TOPIC_MODES = ("labels", "fine", "none")
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class EvalConfig:
    """What to measure, on which text, with which of the runs' checkpoints."""

    runs: tuple[str, ...] = ()
    """Names in the workdir, or paths; none: every finished run."""
    checkpoint: str = "last"
    """'last', 'all', or a step."""
    split: str = TEST
    """Held-out split of the annotated corpus."""
    data: str = ""
    """A corpus to measure on instead of the held-out split; each of its sources is a domain."""
    suite: str = ""
    """A suite file that names domains and where their text is."""
    topics: str = "labels"
    """What a topic is: a sample's `labels`, its one `fine` topic, or `none` of them."""
    context_length: int = 0
    """Tokens that the model reads at once; 0: as many as it was trained with."""
    stride: int = 0
    """New tokens counted in each sliding window; 0: disjoint windows."""
    batch_tokens: int = 16384
    """Most tokens in a batch."""
    tasks: str = ""
    """Downstream tasks instead of text: 'piqa,sciq=FILE'."""
    noise: bool = False
    """Judge how the runs dealt with planted noise instead of measuring text."""
    finetune: str = ""
    """GLUE tasks to fine-tune on instead of text: 'cola,sst2'."""
    task_data: str = ""
    """Folder of the tasks' files."""
    limit: int = 0
    """Items of each task (of each split, where it is fine-tuned on), at most; 0: all."""
    device: str = ""
    """'cpu', 'cuda', 'cuda:1', or several that share the text, 'cuda:0,cuda:1'; empty: the GPUs if there are any."""
    precision: str = "fp32"
    """What matrices are multiplied in: strict 'fp32', 'tf32' or 'bf16'."""

    @property
    def devices(self) -> list[str]:
        """Those named."""
        return [name.strip() for name in self.device.split(",")]

    @property
    def recorded_precision(self) -> str:
        """As it stands in the conditions: strict float32 goes without saying."""
        return "" if self.precision == "fp32" else self.precision


def check_config(config: EvalConfig) -> None:
    """Refuse settings that cannot work.

    Raises:
        UsageError: names the flag, what it holds and what it may hold.
    """
    if config.split not in SPLITS:
        raise UsageError(f"--split {config.split}: expected {' or '.join(SPLITS)}")
    if config.topics not in TOPIC_MODES:
        raise UsageError(f"--topics {config.topics}: expected one of {', '.join(TOPIC_MODES)}")
    if sum(map(bool, (config.data, config.suite, config.tasks, config.finetune, config.noise))) > 1:
        raise UsageError("--data, --suite, --tasks, --finetune and --noise: give one of them")
    if config.checkpoint not in ("last", "all") and not config.checkpoint.removeprefix("checkpoint-").isdigit():
        raise UsageError(f"--checkpoint {config.checkpoint}: expected last, all or a step")
    if config.context_length < 0 or config.stride < 0 or config.batch_tokens < 1:
        raise UsageError("--context-length, --stride and --batch-tokens must be positive")
    if config.context_length and config.stride > config.context_length:
        raise UsageError(f"--stride {config.stride}: must be at most the context length, {config.context_length}")
    if config.precision not in PRECISIONS:
        raise UsageError(f"--precision {config.precision}: expected one of {', '.join(PRECISIONS)}")
    if config.finetune and config.precision != "fp32":
        raise UsageError(f"--precision {config.precision}: --finetune trains in fp32; leave it out")
    if len(config.devices) > 1 and (config.tasks or config.finetune):
        raise UsageError(f"--device {config.device}: --tasks and --finetune use one device; name one")
