"""What settings of a run can't work together, told before anything heavy starts."""

from __future__ import annotations

from pathlib import Path

from toremi_cli.errors import UsageError
from toremi_cli.settings import problem_of
from toremi_cli.train.accelerate_config import read_accelerate_config
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.shapes import PRESETS


def check_config(config: TrainConfig) -> None:
    """Refuse settings that cannot work, before anything heavy starts.

    Raises:
        UsageError: names the flag, what it holds and what it may hold.
    """
    if problem := problem_of(config):
        raise UsageError(problem)
    if config.batch_size and config.batch_tokens:
        raise UsageError("--batch-size and --batch-tokens: give one of the two")
    if sum(value is not None for value in (config.max_steps, config.max_tokens, config.epochs)) > 1:
        raise UsageError("--max-steps, --max-tokens and --epochs: give one of the three")
    if config.tokens and config.annotated:
        raise UsageError("--tokens and --annotated: give one of the two")
    if config.init_from and not (Path(config.init_from) / "config.json").is_file():
        raise UsageError(f"--init-from {config.init_from}: no config.json there; expected a checkpoint folder")
    if config.model not in PRESETS and not config.init_from and model_config_path(config.model) is None:
        raise UsageError(
            f"--model {config.model}: neither a preset ({', '.join(PRESETS)}) nor the path of a transformers config"
        )
    _check_accelerate_config(config)
    if not config.run_name or "/" in config.run_name or config.run_name.startswith("."):
        raise UsageError(f"--name {config.run_name!r}: must be a plain folder name")


def _check_accelerate_config(config: TrainConfig) -> None:
    """Refuse a file that accelerate's launcher could not read, and flags that say otherwise than the file."""
    if not config.accelerate_config:
        return
    found = read_accelerate_config(config.accelerate_config)
    for flag, value, given in (
        ("--gpus", config.gpus, bool(config.gpus)),
        ("--processes", config.processes, config.processes > 1),
    ):
        if given:
            raise UsageError(
                f"{flag} {value}: with --accelerate-config the file says how many ranks there are (num_processes: "
                f"{found.get('num_processes')}); leave {flag} out"
            )


def model_config_path(model: str) -> Path | None:
    """The config.json that `--model PATH` names, None if there is none."""
    path = Path(model)
    if path.is_dir():
        path = path / "config.json"
    return path if path.is_file() else None
