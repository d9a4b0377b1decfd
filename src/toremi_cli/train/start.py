"""From a command's flags to a run: fresh, resumed, or finished already."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from toremi_cli import console
from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.runs.record import FINISHED, RUNTIME_FIELDS, read_run
from toremi_cli.train.accelerate_config import is_first_machine
from toremi_cli.train.config import TrainConfig, check_config, differences, resolve_auto
from toremi_cli.train.launch import launch
from toremi_cli.train.machine import check_launched, resolve_devices
from toremi_cli.train.ranks import is_first, join_launched


def start_run(
    values: Mapping[str, Any], given: Set[str], *, resume: bool, overwrite: bool, debug: bool = False
) -> dict[str, Any]:
    """Train, or say that there is nothing left to do; return the outcome of the run.

    Args:
        values: all flags by name, `policy` as a mapping.
        given: names of the flags that the user gave.
        resume: go on with an existing run; flags not given are taken from it.
        overwrite: put the run in the place of an existing one, which stays until the first step is done.
        debug: full tracebacks.

    Raises:
        UsageError: flags that cannot work, or that contradict the run to resume.
        TrainingError: what stopped the run, or stands in its way.
    """
    values = resolve_auto(values)
    if resume and overwrite:
        raise UsageError("--resume and --overwrite: give one of the two")
    config = _config(values, debug)
    check_config(config)
    if join_launched(os.environ, look_at_slurm=not config.accelerate_config):
        return _as_rank(config, values, given, resume, overwrite)
    resolve_devices(config)
    if not is_first_machine(config.accelerate_config):
        config, done = _follow(config, values, given, resume, overwrite)
        return launch(config, resume, overwrite) if done is None else {**done, "summary": {}}
    if overwrite or given & {"annotated", "tokenizer"}:
        _check_inputs(config)
    config, resume, done = settle(config, values, given, resume=resume, overwrite=overwrite)
    if done is not None:
        return _finished(done)
    _check_inputs(config)
    return launch(config, resume, overwrite)


def plan_only(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a run with these flags would do, without training.

    Raises:
        UsageError: flags that cannot work.
        TrainingError: no corpus.
    """
    config = _config(resolve_auto(values), debug=False)
    check_config(config)
    _check_inputs(config)
    gpus, processes = resolve_devices(config)
    from toremi_cli.train.dry_run import describe_plan
    from toremi_cli.train.worker import open_run_cache, silence_libraries

    silence_libraries()
    return describe_plan(config, open_run_cache(config, build=True), processes, on_gpus=gpus > 0)


def settle(
    config: TrainConfig, values: Mapping[str, Any], given: Set[str], *, resume: bool, overwrite: bool
) -> tuple[TrainConfig, bool, dict[str, Any] | None]:
    """The config to run with, whether to resume, and the summary of a run that is finished already."""
    folder = Workdir(Path(config.workdir)).run(config.run_name)
    record = None if overwrite else read_run(folder)
    if record is None:
        if resume:
            raise TrainingError(f"{folder}: no run to resume; start it without --resume")
        return config, False, None
    if resume:
        config = _merged(config, record["config"], values, given)
    changed = differences(record["config"], config)
    if changed:
        how = "--name NAME for another run, or --overwrite"
        how = f"leave the flag out, or use {how}" if resume else f"use {how}"
        raise TrainingError(f"{folder}: holds a run with other settings ({'; '.join(changed)}); {how}")
    if record["status"] == FINISHED:
        _check_unchanged(folder, record, config)
        console.note(f"{folder}: finished already, with the same settings; --overwrite trains it anew")
        return config, True, record["result"]
    if not resume:
        console.note(f"{folder}: going on with this run, which was not finished")
    return config, True, None


def _check_unchanged(folder: Path, record: Mapping[str, Any], config: TrainConfig) -> None:
    """Refuse to call a run finished that was trained on another corpus than is there now; one that is gone may be."""
    from toremi_cli.lm.fingerprint import corpus_fingerprint

    if not (config.annotated_path.exists() and config.tokenizer_path.exists()):
        return
    if corpus_fingerprint(Path(config.workdir), config.annotated_path, config.tokenizer_path) != record["data"]:
        raise TrainingError(
            f"{folder}: finished, but the annotated corpus has changed since; --overwrite trains it anew, "
            "--name NAME begins another"
        )


def _config(values: Mapping[str, Any], debug: bool) -> TrainConfig:
    known = {f.name for f in fields(TrainConfig)}
    plain: dict[str, Any] = {k: str(v) if isinstance(v, Path) else v for k, v in values.items() if k in known}
    return TrainConfig(**{**plain, "debug": debug, "quiet": console.is_quiet()})


def _merged(
    config: TrainConfig, recorded: Mapping[str, Any], values: Mapping[str, Any], given: Set[str]
) -> TrainConfig:
    """The recorded settings, with the flags that were given and all that belongs to this machine."""
    old = TrainConfig.from_json(recorded).to_json()
    policy = dict(old["policy"]) | {key: values[key] for key in given & set(config.policy) - {"name"}}
    if "policy" in given:
        policy["name"] = config.policy["name"]
    here = {
        "workdir",
        "annotated",
        "tokenizer",
        "name",
        "quiet",
        "debug",
        "gpus",
        "processes",
        "rank_timeout",
        "accelerate_config",
    }
    names = {f.name for f in fields(TrainConfig)} - {"policy"}
    taken = {key: getattr(config, key) for key in names & (set(given) | (here & RUNTIME_FIELDS))}
    return replace(TrainConfig.from_json(old), **taken, policy=policy)


def _check_inputs(config: TrainConfig) -> None:
    """Say at once, before anything heavy is loaded or moved away, that the corpus is missing."""
    annotated = config.annotated_path
    if not annotated.exists():
        raise TrainingError(
            f"{annotated}: no such table; run `toremi annotate CORPUS --workdir {config.workdir}` first"
        )
    if config.tokenizer and not config.tokenizer_path.is_dir():
        raise TrainingError(f"--tokenizer {config.tokenizer}: no such folder; expected one in Hugging Face layout")


def _as_rank(
    config: TrainConfig, values: Mapping[str, Any], given: Set[str], resume: bool, overwrite: bool
) -> dict[str, Any]:
    """Train as one of the ranks that torchrun or srun started; a failure ends this process at once."""
    check_launched(config)
    done: dict[str, Any] | None = None
    if is_first():
        config, resume, result = settle(config, values, given, resume=resume, overwrite=overwrite)
        done = None if result is None else _finished(result)
    else:
        config, done = _follow(config, values, given, resume, overwrite)
    if done is None:
        from toremi_cli.train.worker import leave, run_worker

        try:
            done = run_worker(config, resume, overwrite)
        except Exception as problem:
            leave(problem, config)
    return done if is_first() else {**done, "summary": {}}


def _follow(
    config: TrainConfig, values: Mapping[str, Any], given: Set[str], resume: bool, overwrite: bool
) -> tuple[TrainConfig, dict[str, Any] | None]:
    """What the first rank's `settle` comes to, for a rank or a machine that isn't the first, without a word.

    Returns:
        The config to run with, and the outcome of a run that is finished already.
    """
    record = None if overwrite else read_run(Workdir(Path(config.workdir)).run(config.run_name))
    if record is None:
        return config, None
    if resume:
        config = _merged(config, record["config"], values, given)
    return config, _finished(record["result"]) if record["status"] == FINISHED else None


def _finished(summary: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a run that has nothing left to do."""
    return {"signal": 0, "exit_code": 0, "summary": summary}
