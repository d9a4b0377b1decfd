"""A run's topic weights in short: where each topic stands and how it got there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from toremi_cli.errors import TrainingError
from toremi_cli.runs.history import TopicCourses, read_topics
from toremi_cli.runs.run import Run
from toremi_cli.schemas import WEIGHTS


def summarize_weights(run: Run) -> dict[str, Any]:
    """Last weight, loss and course of each topic, the largest weight first, with facts of the run.

    Raises:
        TrainingError: the run has no weights yet.
        TableError: its table is damaged.
    """
    courses = read_topics(run)
    if courses is None:
        table = run.folder / WEIGHTS.name
        raise TrainingError(f"{table}: no weights yet: they appear at the end of the first interval")
    policy, step = run.config.get("policy", {}), int(courses.steps[-1])
    topics = [_summarize_topic(courses, index, policy) for index in range(len(courses.topics))]
    return {
        "policy": policy.get("name", "?"),
        "step": step,
        "max_steps": run.record.get("schedule", {}).get("max_steps", step),
        "stage": int(courses.stages[-1]),
        "num_intervals": len(courses.steps),
        "low": float(np.nanmin(courses.weight)),
        "high": float(np.nanmax(courses.weight)),
        "topics": sorted(topics, key=lambda t: (-t["weight"], t["topic"])),
    }


def _summarize_topic(courses: TopicCourses, index: int, policy: Mapping[str, Any]) -> dict[str, Any]:
    num_samples, losses = courses.num_samples[:, index], courses.loss[:, index]
    weights = courses.weight[~np.isnan(num_samples), index].tolist()  # a topic may have no row in some interval
    losses = losses[~np.isnan(losses)]
    return {
        "topic": courses.topics[index],
        "num_samples": int(np.nansum(num_samples)),
        "loss": float(losses[-1]) if len(losses) else None,
        "course": weights,
        "weight": weights[-1],
        "at_bound": _bound(weights[-1], policy),
    }


def _bound(weight: float, policy: Mapping[str, Any]) -> str:
    """The bound at which a weight stands, empty if at none."""
    if policy.get("name") == "uniform":
        return ""
    return next((name for name in ("w_min", "w_max") if weight == policy.get(name)), "")
