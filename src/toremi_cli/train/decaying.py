"""`--decay-from RUN`: a run that takes up another's checkpoint at the peak learning rate, and decays from there.

So one long run of `--schedule wsd` or `constant` serves several lengths (arXiv 2405.18392).
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.runs.checkpoints import Checkpoint, list_checkpoints, step_of
from toremi_cli.runs.record import RUNTIME_FIELDS, read_run
from toremi_cli.train.config import TrainConfig

LENGTHS = frozenset({"max_steps", "max_tokens", "epochs"})
OWN = RUNTIME_FIELDS | LENGTHS | {"decay_from", "decay_fraction", "min_learning_rate", "log_every"}
"""Settings that the decay may have to itself; all others are the run's that it goes on with."""


def decay_settings(config: TrainConfig, given: Set[str]) -> TrainConfig:
    """The settings of a run that decays from a checkpoint of the run that `config.decay_from` names.

    Args:
        config: its flags; `decay_from` is RUN, for its last checkpoint at the peak, or RUN/checkpoint-N.
        given: names of the flags that the user gave.

    Returns:
        The settings of RUN, its pace as it was, with `decay_from` naming a checkpoint; without a length, the decay
        lasts for `decay_fraction` of the whole.

    Raises:
        TrainingError: no such run.
        UsageError: it has no such checkpoint at the peak, or a flag would change what it trained.
    """
    asked = str(config.decay_from)
    name, _, chosen = asked.partition("/")
    folder = Workdir(Path(config.workdir)).run(name)
    record = read_run(folder)
    if record is None:
        raise TrainingError(f"--decay-from {asked}: {folder} holds no run; expected a name below runs/")
    checkpoint = _choose(asked, list_checkpoints(folder), record["schedule"], chosen)
    length = {key: getattr(config, key) for key in LENGTHS}
    if not any(length.values()):
        if config.decay_fraction >= 1:
            raise UsageError("--decay-fraction 1: of a run that goes on; give less, or the whole length by --max-steps")
        length["max_steps"] = round(checkpoint.step / (1 - config.decay_fraction))
    pace = {key: record["schedule"][key] for key in ("interval", "eval_every", "warmup_steps")}
    own = {key: getattr(config, key) for key in OWN - LENGTHS - {"decay_from"}}
    own["name"] = config.name or f"{name}-decay"
    origin = f"{name}/{checkpoint.name}"
    found = replace(TrainConfig.from_json(record["config"]), **own, **length, **pace, schedule="wsd", decay_from=origin)
    known = {f.name for f in fields(TrainConfig)}
    # A config.toml that an earlier decay wrote names all settings, as they are.
    if changed := sorted(key for key in (given & known) - OWN if getattr(config, key) != getattr(found, key)):
        flags = ", ".join("--" + key.replace("_", "-") for key in changed)
        raise UsageError(f"--decay-from {asked}: goes on with the settings of {name}; leave out {flags}")
    return found


def decay_step(decay_from: str) -> int:
    """Steps that the run had done at the checkpoint which `decay_from`, as `decay_settings` left it, names."""
    return step_of(decay_from.rpartition("/")[2]) or 0


def _choose(asked: str, checkpoints: list[Checkpoint], schedule: dict[str, Any], chosen: str) -> Checkpoint:
    """The checkpoint named `chosen`, or the last one of those at the peak learning rate."""
    if "last_peak_step" not in schedule:
        raise UsageError(f"--decay-from {asked}: another version of toremi trained it; train it anew")
    first, last = schedule["warmup_steps"], schedule["last_peak_step"] + 1  # in steps done
    if schedule["kind"] not in ("wsd", "constant"):
        raise UsageError(
            f"--decay-from {asked}: it decays from step {last} on ({schedule['kind']}); expected a run of --schedule "
            "wsd or constant"
        )
    found = [c for c in checkpoints if not chosen or c.name == chosen]
    if chosen and not found:
        raise UsageError(f"--decay-from {asked}: no such checkpoint; there are {_names(checkpoints)}")
    at_peak = [c for c in found if max(first, 1) <= c.step <= last]
    if not at_peak:
        raise UsageError(
            f"--decay-from {asked}: {'it is not' if chosen else 'there is none'} between the warm-up "
            f"(step {first}) and the decay (step {last}); there are {_names(checkpoints)}; "
            "--keep-checkpoints all keeps them"
        )
    return at_peak[-1]


def _names(checkpoints: list[Checkpoint]) -> str:
    return ", ".join(c.name for c in checkpoints) or "none"
