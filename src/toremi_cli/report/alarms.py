"""What in a run's course asks for a second look, in one sentence each."""

from __future__ import annotations

from typing import Any

import numpy as np

from toremi_cli.runs.history import History

AT_BOUND = 0.5
"""Share of the topics at a bound of the weights from which on the policy has stopped telling them apart."""
SPIKE = 1.3
"""A training loss this many times the median of the ten before it."""
UNSEEN = 5
"""Intervals in a row without a sample of a topic."""
DRIFT = 1.5
"""Mean weight (or its inverse) from which on a run without --normalize trains at another learning rate."""


def alarms(history: History) -> list[str]:
    """All alarms of a run, the gravest first; empty where nothing stands out."""
    found = []
    if history.run.is_going:
        found.append("The run is not finished: everything here is as far as it has come.")
    return found + _loss_alarms(history) + _weight_alarms(history)


def _loss_alarms(history: History) -> list[str]:
    found = []
    course = history.metrics.get(("train_loss", "all"))
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
    held_out = history.metrics.get(("eval_loss", "all"))
    if held_out is not None and len(held_out.values) > 2:
        best = int(held_out.values.argmin())
        if held_out.values[-1] > 1.01 * held_out.values[best]:
            found.append(
                f"The held-out loss rose again, from {held_out.values[best]:.3f} at step {held_out.steps[best]:,} "
                f"to {held_out.values[-1]:.3f}."
            )
    return found


def _weight_alarms(history: History) -> list[str]:
    courses = history.topics
    if courses is None or courses.is_constant:
        return []
    found = []
    policy = history.record.get("config", {}).get("policy", {})
    low, high = float(policy.get("w_min", 0.1)), float(policy.get("w_max", 5.0))
    last = courses.weight[-1][~np.isnan(courses.weight[-1])]
    stuck = int(((last <= low * 1.001) | (last >= high * 0.999)).sum())
    if len(last) and stuck / len(last) >= AT_BOUND:
        found.append(
            f"{stuck} of {len(last)} topics ended at a bound of the weights ({low:g} or {high:g}): the rule no longer "
            "tells them apart. A smaller --alpha, or --normalize, gives it room."
        )
    mean = float(last.mean()) if len(last) else 1.0
    if _acts_on_loss(policy) and not policy.get("normalize", False) and (mean > DRIFT or mean < 1 / DRIFT):
        found.append(
            f"The mean weight ended at {mean:.2f}, which changes the effective learning rate: a comparison with "
            "uniform is confounded unless the weights are normalised (--normalize)."
        )
    unseen = np.isnan(courses.loss)
    if len(unseen) >= UNSEEN:
        gone = [t for i, t in enumerate(courses.topics) if unseen[-UNSEEN:, i].all()]
        if gone:
            names = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
            found.append(f"Not seen in the last {UNSEEN} intervals, so their weights stand still: {names}.")
    return found


def _acts_on_loss(policy: dict[str, Any]) -> bool:
    """Whether the weights scale the loss; those that are shares of what is drawn have no mean to keep."""
    from toremi_cli.reweight.policies import POLICIES

    known = POLICIES.get(str(policy.get("name")))
    applied = policy.get("apply", "auto")
    return (known.acts_on if known and applied == "auto" else applied) != "sampling"
