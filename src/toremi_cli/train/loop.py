"""The training loop, top-down: a step, then what is due after it (log, evaluate, reweight, save)."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from toremi_cli import console
from toremi_cli.errors import TrainingError
from toremi_cli.lm.streams import derive_seed
from toremi_cli.reweight import normalizer
from toremi_cli.runs.record import update_run
from toremi_cli.schemas import ALL_DOMAINS, MACRO
from toremi_cli.train.agreement import agree_on_shares, agree_on_weights
from toremi_cli.train.announce import note_repetition
from toremi_cli.train.evaluation import evaluate
from toremi_cli.train.loader import MicroBatch, StepBatch, prefetch
from toremi_cli.train.loss import (
    normaliser,
    objective,
    sample_losses,
    segment_context,
    segment_losses,
    segment_sensitivity,
    segment_weights,
)
from toremi_cli.train.peak import matmul_peak
from toremi_cli.train.run import Training, put_in_force
from toremi_cli.train.schedule import fraction_of_peak
from toremi_cli.train.sharding import is_sharded, whole
from toremi_cli.train.signals import StopRequest
from toremi_cli.train.snapshot import add_metric, snapshot
from toremi_cli.train.speed import Clock, flops_per_token
from toremi_cli.train.state import save


def train(run: Training, begin: Callable[[], None]) -> int:
    """Train to the last step, or to the step at which the run was asked to stop: the signal's number, else 0.

    `begin` is called after the first step, before anything is written.
    """
    config, schedule = run.config, run.schedule
    stop = StopRequest(run.accelerator.num_processes, timedelta(minutes=config.rank_timeout))
    clock = start_clock(run)
    steps = range(run.step, schedule.max_steps)
    with console.progress("training", schedule.max_steps, "steps") as progress:
        progress.advance(run.step)
        # Where weights decide what is drawn, the first batch of an interval waits for the end of the one before.
        batches = prefetch(run.builder, steps, lambda s: run.sampling is None or s % schedule.interval != 0)
        for batch in clock.waiting(batches):
            set_learning_rate(run, fraction_of_peak(run.step, schedule))
            train_step(run, batch)
            if run.step == steps.start:
                begin()
            run.step, run.stream_state = run.step + 1, batch.state
            note_repetition(run)
            clock.count(schedule.batch_tokens)
            is_last, received = run.step == schedule.max_steps, stop.poll()

            if run.step % config.log_every == 0 or is_last:
                log_losses(run, clock)
                progress.describe(f"training, loss {run.last_train_loss:.3f}, {run.speed['mfu']:.0%} MFU")
            if run.step % schedule.eval_every == 0 or is_last:
                with clock.phase("evaluation"):
                    log_evaluation(run)
            if run.step % schedule.interval == 0:
                with clock.phase("reweighting"):
                    update_weights(run)
            if run.step % config.checkpoint_every == 0 or is_last or received:
                with clock.phase("checkpoint"):
                    check_finite(run)
                    save(run, at_once=is_last or bool(received))
            progress.advance()
            if received and not is_last:
                return received
    stop.close()
    return 0


def start_clock(run: Training) -> Clock:
    """A clock that knows what a token costs and what the ranks' devices can do."""
    dtype = torch.bfloat16 if run.accelerator.mixed_precision == "bf16" else torch.float32
    peak = matmul_peak(run.device, dtype) * run.accelerator.num_processes
    return Clock(run.device, flops_per_token(run.model, run.schedule.context_length), peak)


def train_step(run: Training, batch: StepBatch) -> None:
    """Forward and backward of each micro-batch, clip, step. Nothing here waits for the device."""
    # Dropout's random numbers belong to the step and the rank: there is no state to save.
    torch.manual_seed(derive_seed(run.config.seed, "dropout", run.step, run.accelerator.process_index))
    # Data parallelism averages the ranks' gradients; the loss is a sum over ranks, so each counts world-size fold.
    divisor = normaliser(batch.total_mass, batch.total_tokens, run.config.loss_average)
    scale = run.loss_scale * run.accelerator.num_processes / divisor
    micro_batches = [micro_batch.to(run.device) for micro_batch in batch.micro_batches]
    factors = batch_factors(run, batch, micro_batches) if run.policy.sample_level else None
    for index, micro in enumerate(micro_batches):
        is_last = index + 1 == len(micro_batches)
        counted = micro if run.sums_device == run.device else batch.micro_batches[index]  # beside the float64 sums
        weights = segment_weights(counted, run.loss_weights, run.stratum_factors).to(run.device)  # (S,)
        if factors is not None:
            weights = weights * factors[micro.batch_sample]
        with nullcontext() if is_last or is_sharded(run.accelerator) else run.accelerator.no_sync(run.token_loss):
            token_losses, sums, loss = pass_micro_batch(run, micro, weights, scale)
        run.window.add_losses(token_losses, loss / run.accelerator.num_processes)
        sensitivity = segment_sensitivity(run.losses, micro, scale * weights, run.config.loss_average)
        run.statistics.add(
            sample_losses(sums, micro).detach().to(run.sums_device),
            counted.mass,
            counted.pair_segment,
            counted.pair_topic,
            counted.pair_prob * run.propensities[counted.stratum[counted.pair_segment]],
            sample_tokens=counted.num_tokens,
            sample_bytes=counted.num_bytes,
            sample_context=segment_context(run.losses, token_losses, micro).to(run.sums_device),
            sample_sensitivity=None if sensitivity is None else sensitivity.to(run.sums_device),
            sample_begins=counted.begins,
        )
    run.window.end_step(clip_gradients(run))
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)


def pass_micro_batch(run: Training, micro: MicroBatch, weights: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Forward and backward of one micro-batch: its token losses (b, T), their sums (S,), and its part of the loss.

    Args:
        run: its gradients grow.
        micro: on the device.
        weights: (S,) of the segments' samples.
        scale: factor on the loss.
    """
    token_losses = run.token_loss(micro.inputs, micro.targets, micro.segment, micro.documents)
    sums = segment_losses(token_losses, micro)
    loss = scale * objective(sums, micro, weights, run.config.loss_average)
    run.accelerator.backward(loss)
    return token_losses, sums, loss


@torch.no_grad()
def batch_factors(run: Training, batch: StepBatch, micro_batches: list[MicroBatch]) -> Tensor:
    """(num_samples,) factors of the global batch's samples, from a forward pass of their own.

    A policy that weighs samples against each other needs the losses of all ranks and micro-steps before the first
    backward pass.
    """
    sums = torch.zeros(2, batch.num_samples, dtype=torch.float64, device=run.sums_device)  # losses and masses
    for micro in micro_batches:
        token_losses = run.losses(micro.inputs, micro.targets, micro.segment, micro.documents)
        losses = sample_losses(segment_losses(token_losses, micro), micro)
        found = torch.stack((losses, micro.mass)).to(run.sums_device)
        sums.index_add_(1, micro.batch_sample.to(run.sums_device), found.double())
    if dist.is_initialized():
        dist.all_reduce(sums)
    return run.policy.sample_factors(sums[0] / sums[1], run.step).float().to(run.device)


def clip_gradients(run: Training) -> Tensor:
    """Scale the gradient down to the largest norm allowed; return its norm before that, on the device."""
    norm = run.accelerator.clip_grad_norm_(run.token_loss.parameters(), run.config.grad_clip or math.inf)
    assert isinstance(norm, Tensor)
    return whole(norm)


def set_learning_rate(run: Training, fraction: float) -> None:
    """Let the next optimizer step use that `fraction` of each group's peak."""
    schedule = run.schedule
    for group in run.optimizer.param_groups:
        group["lr"] = fraction * (schedule.muon_learning_rate if "muon" in group else schedule.learning_rate)


def log_losses(run: Training, clock: Clock) -> None:
    """Read the losses since the last log and write them to `metrics`."""
    summary = run.window.summarize(run.step, run.schedule.batch_tokens)
    run.window.reset()
    run.last_train_loss = summary.train_loss
    add_metric(run, "train_loss", summary.train_loss)
    add_metric(run, "objective", summary.objective)
    add_metric(run, "grad_norm", summary.grad_norm)
    groups = run.optimizer.param_groups
    for name, rate in {"muon_" * ("muon" in group) + "learning_rate": group["lr"] for group in groups}.items():
        add_metric(run, name, rate)
    add_metric(run, "epoch", run.tokens_seen / run.schedule.epoch_tokens)
    run.speed = clock.read()
    for name, value in run.speed.items():
        add_metric(run, name, value)


def log_evaluation(run: Training) -> None:
    """Evaluate on the validation split, write it to `metrics`, and let the stage switch see it."""
    if len(run.eval_samples) == 0:
        return
    with run.accelerator.autocast():
        data = run.cache, run.index.pairs, run.eval_samples, run.eval_texts
        found = evaluate(run.losses, *data, run.schedule.context_length, run.device)
    for name, by_source, micro, macro in (
        ("eval_loss", found.loss, found.micro_loss, found.macro_loss),
        ("eval_bits_per_byte", found.bits_per_byte, found.micro_bits_per_byte, found.macro_bits_per_byte),
    ):
        for domain, value in {**by_source, ALL_DOMAINS: micro, MACRO: macro}.items():
            add_metric(run, name, value, domain)
    run.holdout_loss = found.topic_loss
    run.last_evaluation = {"micro_loss": found.micro_loss, "macro_loss": found.macro_loss}
    if not math.isfinite(found.micro_loss):
        raise TrainingError(f"step {run.step}: the validation loss is {found.micro_loss}; the last checkpoint stays")
    run.switch.observe(run.step, found.micro_loss)
    if run.is_main:
        run.metrics_table.flush()


def update_weights(run: Training) -> None:
    """End the interval: reduce the topics' losses over the ranks, update the weights, write the snapshot."""
    check_finite(run)
    if dist.is_initialized():
        dist.all_reduce(run.statistics.buffer)
    stats = replace(
        run.statistics.read(run.step),
        holdout_loss=run.holdout_loss if len(run.eval_samples) else None,
        drawn_weights=None if run.sampling is None else run.sampling.drawn_weights(),
    )
    run.statistics.reset()
    stage = run.policy.stage_of(run.switch.stage_for(run.step))
    if stage > run.stage:
        enter_stage(run, stage)
    weights = agree_on_weights(run, run.policy.update(stats, stage))
    if run.policy.config.normalize and run.sampling is None:
        run.loss_scale = normalizer(weights, stats, run.config.loss_average)
    if run.sampling is not None:
        run.sampling.update(weights, run.remaining_tokens, run.interval_tokens)
        agree_on_shares(run)
        run.stream_state = run.builder.stream.state_dict()  # now with the new shares
    put_in_force(run)
    snapshot(run, weights, stats, stage)


def enter_stage(run: Training, stage: int) -> None:
    """Note that stage 2 makes its first update, and why, on the terminal and in `run.json`."""
    run.stage = stage
    if run.is_main:
        console.note(f"step {run.step:,}: stage {stage} begins ({run.switch.reason})")
        update_run(run.folder, stage_switch={"step": run.step, "reason": run.switch.reason})


def check_finite(run: Training) -> None:
    """Stop before losses that are not finite reach the weights or a checkpoint."""
    if run.window.count:
        run.window.summarize(run.step, run.schedule.batch_tokens)
