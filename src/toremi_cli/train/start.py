"""From a command's flags to a run: fresh, resumed, or finished already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from toremi_cli import console
from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.policy_config import policy_settings
from toremi_cli.runs.record import FINISHED, read_run
from toremi_cli.train.accelerate_config import is_first_machine
from toremi_cli.train.check_config import check_config
from toremi_cli.train.config import TrainConfig, differences
from toremi_cli.train.decaying import decay_settings
from toremi_cli.train.launch import launch
from toremi_cli.train.machine import check_launched, resolve_devices
from toremi_cli.train.ranks import is_first, join_launched


def start_run(given: Mapping[str, Any], *, resume: bool, overwrite: bool, debug: bool = False) -> dict[str, Any]:
    """Train, or say that there is nothing left to do; return the outcome of the run.

    Args:
        given: the settings that the user gave, fields of `TrainConfig`; of the policy, too, only those given.
        resume: go on with an existing run; settings not given are taken from it.
        overwrite: put the run in the place of an existing one, which stays until the first step is done.
        debug: full tracebacks.

    Raises:
        UsageError: flags that cannot work, or that contradict the run to resume.
        TrainingError: what stopped the run, or stands in its way.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite: give one of the two")
    config = configure(given, debug)
    if join_launched(os.environ, look_at_slurm=not config.accelerate_config):
        return _as_rank(config, given, resume, overwrite)
    resolve_devices(config)
    if not is_first_machine(config.accelerate_config):
        config, done = _follow(config, given, resume, overwrite)
        return launch(config, resume, overwrite) if done is None else {**done, "summary": {}}
    if overwrite or given.keys() & {"annotated", "tokens", "tokenizer"}:
        _check_inputs(config)
    config, resume, done = settle(config, given, resume=resume, overwrite=overwrite)
    if done is not None:
        return _finished(done)
    _check_inputs(config)
    _make_tokens(config)
    return launch(config, resume, overwrite)


def plan_only(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a run with these settings would do, without training.

    Raises:
        UsageError: flags that cannot work.
        TrainingError: no corpus.
    """
    config = configure(given)
    _check_inputs(config)
    gpus, processes = resolve_devices(config)
    from toremi_cli.train.dry_run import describe_plan
    from toremi_cli.train.worker import open_run_cache, silence_libraries

    silence_libraries()
    return describe_plan(config, open_run_cache(config, build=True), processes, on_gpus=gpus > 0)


def settle(
    config: TrainConfig, given: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> tuple[TrainConfig, bool, dict[str, Any] | None]:
    """The config to run with, whether to resume, and the summary of a run that is finished already."""
    folder = Workdir(Path(config.workdir)).run(config.run_name)
    record = None if overwrite else read_run(folder)
    if record is None:
        if resume:
            raise TrainingError(f"{folder}: no run to resume; start it without --resume")
        return config, False, None
    if resume:
        config = _merged(config, record["config"], given)
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

    if config.tokens or not (config.annotated_path.exists() and config.tokenizer_path.exists()):
        return
    if corpus_fingerprint(Path(config.workdir), config.annotated_path, config.tokenizer_path) != record["data"]:
        raise TrainingError(
            f"{folder}: finished, but the annotated corpus has changed since; --overwrite trains it anew, "
            "--name NAME begins another"
        )


def configure(given: Mapping[str, Any], debug: bool = False) -> TrainConfig:
    """The settings of a run: those given, else the defaults.

    Raises:
        UsageError: settings that cannot work.
    """
    try:
        policy = policy_settings(given.get("policy", {}))
    except ValueError as problem:
        raise UsageError(str(problem)) from None
    config = TrainConfig(**{**given, "policy": policy, "debug": debug, "quiet": console.is_quiet()})
    if config.decay_from:
        config = decay_settings(config, {key for key, value in given.items() if key != "policy" or value})
    check_config(config)
    return config


def _merged(config: TrainConfig, recorded: Mapping[str, Any], given: Mapping[str, Any]) -> TrainConfig:
    """The recorded settings, with those that were given and all that belongs to this machine."""
    old = TrainConfig.from_json(recorded)
    policy = {**old.policy, **given.get("policy", {})}
    if policy["name"] == old.policy["name"]:
        policy = policy_settings(policy)
    here = {"workdir", "annotated", "tokenizer", "name", "quiet", "debug"}
    here |= {"gpus", "processes", "rank_timeout", "accelerate_config", "cache_gb"}
    taken = {key: getattr(config, key) for key in (given.keys() | here) - {"policy"}}
    return replace(old, **taken, policy=policy)


def _check_inputs(config: TrainConfig) -> None:
    """Say at once, before anything heavy is loaded or moved away, that the corpus is missing."""
    annotated = config.annotated_path
    if not (annotated.exists() or config.tokens):
        raise TrainingError(
            f"{annotated}: no such table; run `toremi annotate CORPUS --workdir {config.workdir}` first"
        )
    if config.tokenizer and not config.tokenizer_path.is_dir():
        raise TrainingError(f"--tokenizer {config.tokenizer}: no such folder; expected one in Hugging Face layout")


def _make_tokens(config: TrainConfig) -> None:
    """Make the tokens with every core before ranks are there to wait for them.

    Looked at by the files' times alone, which costs nothing; where these mislead, the first rank makes the tokens.
    """
    place = Workdir(Path(config.workdir))
    annotated, tokenizer = config.annotated_path, config.tokenizer_path
    made = max((path.stat().st_mtime for path in place.tokens.glob(f"*/index-{config.topics}/meta.json")), default=0.0)
    inputs = (annotated, tokenizer / "tokenizer.json", place.topics)
    if config.tokens or any(path.exists() and path.stat().st_mtime >= made for path in inputs):
        from toremi_cli.train.worker import open_run_cache

        open_run_cache(config, build=True)


def _as_rank(config: TrainConfig, given: Mapping[str, Any], resume: bool, overwrite: bool) -> dict[str, Any]:
    """Train as one of the ranks that torchrun or srun started; a failure ends this process at once."""
    check_launched(config)
    done: dict[str, Any] | None = None
    if is_first():
        config, resume, result = settle(config, given, resume=resume, overwrite=overwrite)
        done = None if result is None else _finished(result)
    else:
        config, done = _follow(config, given, resume, overwrite)
    if done is None:
        from toremi_cli.train.worker import leave, run_worker

        try:
            done = run_worker(config, resume, overwrite)
        except Exception as problem:
            leave(problem, config)
    return done if is_first() else {**done, "summary": {}}


def _follow(
    config: TrainConfig, given: Mapping[str, Any], resume: bool, overwrite: bool
) -> tuple[TrainConfig, dict[str, Any] | None]:
    """What the first rank's `settle` comes to, for a rank or a machine that isn't the first, without a word.

    Returns:
        The config to run with, and the outcome of a run that is finished already.
    """
    record = None if overwrite else read_run(Workdir(Path(config.workdir)).run(config.run_name))
    if record is None:
        return config, None
    if resume:
        config = _merged(config, record["config"], given)
    return config, _finished(record["result"]) if record["status"] == FINISHED else None


def _finished(summary: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a run that has nothing left to do."""
    return {"signal": 0, "exit_code": 0, "summary": summary}
