"""What charts draw: a run, or the seeds of one policy as their mean with a band from the lowest to the highest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np

from toremi_cli.evaluate.seeds import group_by_seed
from toremi_cli.report.style import COLOURS
from toremi_cli.runs.history import CURVE, History, TopicCourses


@dataclass(frozen=True)
class Band:
    """A curve with what lies around it: `steps`, `mean`, `low` and `high` of shape (num_points,)."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass
class SeedGroup:
    """Runs that differ in nothing but their seeds; one run stands for itself."""

    name: str
    histories: list[History]
    colour: int = 0
    """One for each policy."""
    style: int = 0
    """Tells apart groups of one policy."""

    @property
    def policy(self) -> str:
        """Name of the runs' policy."""
        return self.histories[0].policy

    @property
    def title(self) -> str:
        """Its name, and how many seeds it stands for."""
        return self.name + (f", {len(self.histories)} seeds" if len(self.histories) > 1 else "")

    def curve(self, domain: str) -> Band | None:
        """The learning curve of a domain at the steps that all runs have; None where a run has none."""
        courses = [history.metrics.get((CURVE, domain)) for history in self.histories]
        found = [course for course in courses if course is not None]
        if len(found) < len(courses):
            return None
        steps = reduce(np.intersect1d, [course.steps for course in found])
        values = np.stack([course.values[np.isin(course.steps, steps)] for course in found])
        return Band(steps, values.mean(axis=0), values.min(axis=0), values.max(axis=0))

    @cached_property
    def topics(self) -> TopicCourses | None:
        """Mean weights and losses of the topics that all runs have; None where a run has none."""
        found = [history.topics for history in self.histories if history.topics is not None]
        if len(found) < len(self.histories):
            return None
        mean = found[0] if len(found) == 1 else _mean(found)
        return mean if mean.weight.size else None

    def topic_band(self, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest of the seeds: two arrays of the shape of `topics.weight`; `quantity` weight or loss."""
        assert self.topics is not None
        runs = [history.topics for history in self.histories if history.topics is not None]
        values = np.stack([getattr(_aligned(run, self.topics), quantity) for run in runs])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a topic that no run saw in an interval
            return np.nanmin(values, axis=0), np.nanmax(values, axis=0)


def _mean(runs: Sequence[TopicCourses]) -> TopicCourses:
    steps = reduce(np.intersect1d, [run.steps for run in runs])
    topics = [topic for topic in runs[0].topics if all(topic in run.topics for run in runs)]
    first = runs[0]
    at = np.isin(first.steps, steps)
    nothing = np.zeros((len(steps), len(topics)))
    frame = TopicCourses(topics, steps, first.tokens[at], first.stages[at], nothing, nothing, nothing)
    aligned = [_aligned(run, frame) for run in runs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        weight, loss, num_samples = (
            np.nanmean([getattr(run, name) for run in aligned], axis=0) for name in ("weight", "loss", "num_samples")
        )
        extra = {
            name: np.nanmean([run.extra[name] for run in aligned], axis=0)
            for name in aligned[0].extra
            if all(name in run.extra for run in aligned)
        }
    return replace(frame, weight=weight, loss=loss, num_samples=num_samples, extra=extra)


def _aligned(run: TopicCourses, frame: TopicCourses) -> TopicCourses:
    """A run's numbers at the steps and for the topics of `frame`."""
    rows, columns = np.isin(run.steps, frame.steps), [run.topics.index(topic) for topic in frame.topics]
    weight, loss, num_samples = (values[rows][:, columns] for values in (run.weight, run.loss, run.num_samples))
    extra = {name: values[rows][:, columns] for name, values in run.extra.items()}
    return replace(frame, weight=weight, loss=loss, num_samples=num_samples, extra=extra)


def seed_groups(histories: Sequence[History]) -> list[SeedGroup]:
    """The runs by policy, in their order, with a colour for each policy."""
    of_run = {history.run: history for history in histories}
    groups = [SeedGroup(name, [of_run[run] for run in runs]) for name, runs in group_by_seed(list(of_run))]
    policies = list(dict.fromkeys(group.policy for group in groups))
    for number, group in enumerate(groups):
        group.colour = policies.index(group.policy) % len(COLOURS)
        group.style = sum(other.policy == group.policy for other in groups[:number])
    return groups


def chosen_topics(groups: Sequence[SeedGroup], most: int = len(COLOURS)) -> dict[str, list[str]]:
    """By group name the topics worth telling apart, in one order for all groups that have the same topics.

    All if they are few, else those whose weights went furthest from 1 in any of these groups.
    """
    found: dict[str, list[str]] = {}
    alike: dict[frozenset[str], list[TopicCourses]] = {}
    for group in groups:
        if group.topics is not None:
            alike.setdefault(frozenset(group.topics.topics), []).append(group.topics)
    for group in groups:
        if group.topics is not None:
            found[group.name] = _furthest(alike[frozenset(group.topics.topics)], most)
    return found


def _furthest(runs: Sequence[TopicCourses], most: int) -> list[str]:
    topics = runs[0].topics
    if len(topics) <= most:
        return list(topics)
    away = np.max([[_away(run.weight[:, run.topics.index(topic)]) for topic in topics] for run in runs], axis=0)
    return [topics[i] for i in sorted(np.argsort(-away, kind="stable")[:most])]


def _away(weights: np.ndarray) -> float:
    """How far, as a factor, the last known weight is from 1."""
    seen = weights[~np.isnan(weights)]
    return abs(float(np.log(max(seen[-1], 1e-6)))) if len(seen) else 0.0
