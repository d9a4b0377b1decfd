"""What an interval leaves in the run's tables: weights by topic, their health, and warnings on the terminal."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from toremi_cli import console
from toremi_cli.reweight import IntervalStats, alarms, weight_health
from toremi_cli.schemas import ALL_DOMAINS
from toremi_cli.train.run import Training
from toremi_cli.train.tracking import topic_curves

NEARLY_ALL = 0.99
MOST_WARNINGS = 5


def snapshot(run: Training, weights: Tensor, stats: IntervalStats, stage: int) -> None:
    """Write an interval to `weights` and `metrics`; warn where the weights call for it."""
    seen = (stats.seen | (weights == 0)).tolist()  # what weighs nothing isn't missed
    run.unseen_intervals = [0 if s else n + 1 for s, n in zip(seen, run.unseen_intervals, strict=True)]
    if not run.is_main:
        return
    measured = {
        "loss": stats.loss,
        "num_tokens": stats.num_tokens,
        "token_loss": stats.token_loss,
        "shuffled_loss": stats.shuffled_loss,
        "word_gain": stats.word_gain,
        "num_words": stats.num_words,
    }
    values = {name: column.tolist() for name, column in measured.items() if column is not None}
    counts = stats.num_samples.tolist()
    for index, (topic, weight) in enumerate(zip(run.policy.topics, weights.tolist(), strict=True)):
        run.weights_table.add(
            step=run.step,
            tokens_seen=run.tokens_seen,
            stage=stage,
            topic=topic,
            weight=weight,
            num_samples=counts[index],
            **{name: column[index] if counts[index] else None for name, column in values.items()},
        )
    health = weight_health(weights, run.policy.config, stats, run.policy.natural, run.config.loss_average)
    for name, value in {**health, "stage": float(stage)}.items():
        add_metric(run, name, value)
    if run.sampling is not None:
        for topic, times in zip(run.policy.topics, run.sampling.repeats().tolist(), strict=True):
            add_metric(run, "repeats", times, topic)
    if stats.sensitivity is not None:
        _add_topic_metric(run, "sensitivity", stats.sensitivity)
        _add_topic_metric(run, "loss_per_byte", stats.losses("byte"))
    if run.config.log_with:
        curves = topic_curves(run.policy.topics, run.policy.natural, topic_weight=weights, topic_loss=stats.loss)
        run.accelerator.log(curves, step=run.step)
    _warn(run, health)
    run.weights_table.flush()
    run.metrics_table.flush()


def _warn(run: Training, health: dict[str, float]) -> None:
    """Give each kind of alarm once a run."""
    if run.policy.name == "uniform":
        return
    # Where weights decide what is drawn, their mean says nothing about the learning rate.
    config = run.policy.config if run.sampling is None else replace(run.policy.config, normalize=True)
    fresh = []
    for message in [*alarms(health, config, run.policy.topics, run.unseen_intervals), *_used_up(run)]:
        kind = message if message.startswith("topic ") else "".join(c for c in message if c.isalpha())[:20]
        if kind not in run.warned:
            run.warned.add(kind)
            fresh.append(message)
    for message in fresh[:MOST_WARNINGS]:
        console.warn(f"step {run.step:,}: {message}")
    if len(fresh) > MOST_WARNINGS:
        console.warn(f"step {run.step:,}: … and {len(fresh) - MOST_WARNINGS:,} more of the kind")


def _used_up(run: Training) -> list[str]:
    """Warnings about topics that adaptive sampling may hardly draw any more."""
    most = run.policy.config.max_repeats
    if run.sampling is None or most is None:
        return []
    repeats = zip(run.policy.topics, run.sampling.repeats().tolist(), strict=True)
    return [
        f"topic {topic!r}: each of its samples has been drawn {times:.1f} times, as often as max_repeats allows"
        for topic, times in repeats
        if times >= NEARLY_ALL * most
    ]


def _add_topic_metric(run: Training, name: str, values: Tensor) -> None:
    """Add (num_topics,) values to `metrics`, where they are numbers: a topic that was not seen has none."""
    for topic, value in zip(run.policy.topics, values.tolist(), strict=True):
        if math.isfinite(value):
            add_metric(run, name, value, topic)


def add_metric(run: Training, name: str, value: float, domain: str = ALL_DOMAINS) -> None:
    """Add a row to `metrics`; the first rank's is the one that is written."""
    if run.is_main:
        run.metrics_table.add(step=run.step, tokens_seen=run.tokens_seen, name=name, domain=domain, value=value)
        if run.config.log_with:
            run.accelerator.log({f"{name}/{domain}": value}, step=run.step)
