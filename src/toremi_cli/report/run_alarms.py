"""What in a run's course asks for a second look, in one sentence each."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from toremi_cli.runs.history import History
from toremi_cli.schemas import ALL_DOMAINS

SPIKE = 1.3
"""A training loss this many times the median of the ten before it."""
MOST_ALARMS = 8
"""Of the weights."""


def run_alarms(history: History) -> list[str]:
    """All alarms of a run, the gravest first; empty where nothing stands out."""
    found = []
    if history.run.is_going:
        found.append("The run is not finished: everything here is as far as it has come.")
    return found + _loss_alarms(history) + _weight_alarms(history)


def _loss_alarms(history: History) -> list[str]:
    found = []
    course = history.metrics.get(("train_loss", ALL_DOMAINS))
    if course is not None:
        if not np.isfinite(course.values).all():
            step = int(course.steps[~np.isfinite(course.values)][0])
            found.append(f"The training loss is not a number at step {step:,}.")
        for index in range(10, len(course.values)):
            usual = float(np.median(course.values[index - 10 : index]))
            if course.values[index] > SPIKE * usual:
                now = course.values[index]
                found.append(f"The training loss jumps from {usual:.2f} to {now:.2f} at step {course.steps[index]:,}.")
                break
    held_out = history.metrics.get(("eval_loss", ALL_DOMAINS))
    if held_out is not None and len(held_out.values) > 2:
        best = int(held_out.values.argmin())
        if held_out.values[-1] > 1.01 * held_out.values[best]:
            found.append(
                f"The held-out loss rose again, from {held_out.values[best]:.3f} at step {held_out.steps[best]:,} "
                f"to {held_out.values[-1]:.3f}."
            )
    return found


def _weight_alarms(history: History) -> list[str]:
    """What the trainer too warns of, of the last interval, by the numbers that the run recorded of it."""
    courses = history.topics
    if courses is None or history.policy == "uniform":
        return []
    import torch

    from toremi_cli import reweight
    from toremi_cli.reweight.alarms import LONG_UNSEEN_INTERVALS

    known = {field.name for field in fields(reweight.PolicyConfig)}
    settings = history.record.get("config", {}).get("policy", {})
    config = reweight.PolicyConfig(**{name: value for name, value in settings.items() if name in known})
    if any(name == "repeats" for name, _ in history.metrics):
        # Where weights decide what is drawn, their mean says nothing about the learning rate.
        config = replace(config, normalize=True)
    health = reweight.weight_health(torch.tensor(np.nan_to_num(courses.weight[-1], nan=1.0)), config)
    for name in health:
        recorded = history.metrics.get((name, ALL_DOMAINS))
        if recorded is not None:
            health[name] = float(recorded.values[-1])
    missed = np.isnan(courses.loss) & (courses.weight != 0)
    unseen = missed[::-1].cumprod(axis=0).sum(axis=0)  # intervals up to the last, by topic
    found = reweight.alarms(health, config, courses.topics, np.minimum(unseen, LONG_UNSEEN_INTERVALS).tolist())
    shown = [f"{text[0].upper()}{text[1:]}." for text in found[:MOST_ALARMS]]
    return shown + ([f"And {len(found) - MOST_ALARMS:,} more of the kind."] if len(found) > MOST_ALARMS else [])
