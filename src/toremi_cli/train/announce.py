"""What a run says of itself before its first step."""

from __future__ import annotations

from collections.abc import Mapping

from toremi_cli import console
from toremi_cli.lm.bf16 import warn_of_slow_bf16
from toremi_cli.reweight import held_down
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.decaying import decay_step
from toremi_cli.train.outcome import LAUNCH_FOLDER_ENV
from toremi_cli.train.run import Training
from toremi_cli.train.schedule import UPDATES, Schedule
from toremi_cli.train.sharding import fsdp_is_asked_for, is_sharded
from toremi_cli.train.tokens import TokenCache

TORCHRUN_SECONDS = 30
"""How long torchrun waits for its ranks after SIGTERM, if it isn't told otherwise."""
FEW_INTERVALS = 10


def announce(run: Training) -> None:
    """Print the plan in a few lines, with what may surprise."""
    schedule, config = run.schedule, run.config
    ranks = run.accelerator.num_processes
    where = f"{ranks} x {run.device.type}" if ranks > 1 else run.device.type
    console.note(
        f"{config.run_name}: {run.num_parameters / 1e6:.1f}M parameters on {where}, {schedule.max_steps:,} steps of "
        f"{schedule.batch_tokens:,} tokens ({schedule.batch_size} rows x {schedule.context_length}, "
        f"{micro_steps(run)}), "
        f"{schedule.epochs:.2g} epochs of {schedule.epoch_tokens:,} tokens, {len(run.policy.topics)} topics"
    )
    if run.found is not None and run.found.compiled_seconds is not None:
        console.note(
            f"torch.compile: a micro-step takes {run.found.compiled_seconds:.3g} seconds compiled, "
            f"{run.found.eager_seconds:.3g} as it is; training {'compiled' if run.found.compiled else 'without it'}"
        )
    if not run.losses.is_split:
        console.note(
            f"{type(run.model).__name__} is no plain body with a linear head: it trains without --sensitivity and "
            "--chunked-loss"
        )
    if run.documents_note:
        console.note(run.documents_note)
    if config.decay_from and run.step == decay_step(config.decay_from):
        console.note(f"taking up {config.decay_from}: the learning rate falls from now to step {schedule.max_steps:,}")
    elif run.step:
        console.note(f"resuming after step {run.step:,}")
    if fsdp_is_asked_for() and not is_sharded(run.accelerator):
        console.warn(
            "the config of accelerate asks for FSDP, which it offers on GPUs only: every rank holds the whole model"
        )
    if run.accelerator.mixed_precision == "bf16":
        warn_of_slow_bf16(run.device)
    warn_of_few_updates(schedule, run.policy.name)
    warn_of_little_room(config, run.cache, schedule)
    most = run.policy.config.max_repeats
    if run.sampling is not None and most is not None and most < schedule.epochs:
        console.warn(
            f"{schedule.epochs:.3g} epochs are more than max_repeats={most:g} allows: once all samples have been "
            "drawn that often, they go on being repeated, all alike"
        )
    if len(run.eval_samples) == 0:
        console.warn("no validation samples: nothing is evaluated during the run, and a plateau is never seen")


def micro_steps(run: Training) -> str:
    """How a step's rows are parted, in words."""
    count = run.schedule.num_micro_steps
    return f"{count} micro-steps of {run.micro_batch}" if count > 1 else "1 micro-step"


def warn_of_few_updates(schedule: Schedule, policy: str) -> None:
    """Say so where the weights change too seldom for a policy to do anything."""
    intervals = schedule.max_steps // schedule.interval
    if intervals < FEW_INTERVALS and policy != "uniform":
        better = max(schedule.max_steps // UPDATES, 1)
        console.warn(
            f"the weights change only {intervals} time{'s' if intervals != 1 else ''} in {schedule.max_steps} steps; "
            + (f"try --interval {better}" if better < schedule.interval else "train for more of them, of fewer rows")
        )


def warn_of_little_room(config: TrainConfig, cache: TokenCache, schedule: Schedule) -> None:
    """Say so where tokens that are behind a URL don't all have room on this machine, and what that costs."""
    if cache.store is None or cache.store.kept_fraction == 1:
        return
    size = cache.meta["num_tokens"] * cache.store.remote.dtype.itemsize / 1e9
    samples = schedule.batch_tokens * cache.meta["num_samples"] / cache.meta["num_tokens"]
    kept = cache.store.kept_fraction
    console.warn(
        f"--tokens {config.tokens}: {size:,.3g} GB, of which --cache-gb {config.cache_gb:g} keeps {kept:.0%} here; the "
        f"other samples are read from there one by one, about {(1 - kept) * samples:,.0f} requests a step"
    )


def slow_checkpoint(seconds: float, environment: Mapping[str, str]) -> str | None:
    """What to say of a checkpoint that torchrun would not wait for after SIGTERM; None where there is nothing to say.

    Below toremi's own launcher, which sends its signals to the ranks themselves, there is no such limit.
    """
    if "TORCHELASTIC_RUN_ID" not in environment or LAUNCH_FOLDER_ENV in environment or seconds < TORCHRUN_SECONDS / 2:
        return None
    return (
        f"a checkpoint takes {seconds:.0f} seconds, and torchrun ends its ranks {TORCHRUN_SECONDS} seconds after "
        f"SIGTERM: start it with --shutdown-timeout {max(round(seconds * 3), TORCHRUN_SECONDS * 2)}"
    )


def note_repetition(run: Training) -> None:
    """Say once when every sample has been seen and the first comes again."""
    drawn, num_samples = run.stream_state["order"]["index"], len(run.index.samples)
    if run.sampling is None and drawn >= num_samples and "epoch" not in run.warned:  # else metric `repeats` tells of it
        run.warned.add("epoch")
        if run.is_main:
            console.note(f"step {run.step:,}: every sample has been seen; they come again, in another order each time")


def note_held_down(run: Training) -> None:
    """Say at the end which topics the policy held down: a user should look whether they deserve it."""
    found = held_down(run.policy.weights, run.policy.natural, run.policy.topics)
    if found and run.is_main:
        console.note(f"{found}; `toremi weights {run.config.run_name}` shows all")
