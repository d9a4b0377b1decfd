"""What a run left behind, read into arrays: the course of its weights, of its topics' losses and of its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from toremi_cli import console
from toremi_cli.errors import TableError
from toremi_cli.layout import Workdir
from toremi_cli.runs.run import Run, find_runs
from toremi_cli.schemas import ALL_DOMAINS, MACRO, METRICS, WEIGHTS, Table
from toremi_cli.tables import TableReader

CURVE = "eval_bits_per_byte"
"""The metric that learning curves show."""
TOPIC_METRICS = ("sensitivity",)
"""Metrics that a run records for each topic."""


@dataclass(frozen=True)
class Course:
    """One number as it changed: `steps`, `tokens` and `values` of shape (num_points,)."""

    steps: np.ndarray
    tokens: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class TopicCourses:
    """The topics of a run by interval; arrays of shape (num_intervals, num_topics), nan where there is no row."""

    topics: list[str]
    steps: np.ndarray
    """(num_intervals,) int64"""
    tokens: np.ndarray
    """(num_intervals,) int64"""
    stages: np.ndarray
    """(num_intervals,) int32"""
    weight: np.ndarray
    loss: np.ndarray
    num_samples: np.ndarray
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    """`TOPIC_METRICS` that the run recorded, by name."""

    @property
    def switch_step(self) -> int | None:
        """The first step whose weights stage 2 made; None if it never came to that."""
        later = self.steps[self.stages >= 2]
        return int(later[0]) if len(later) else None

    @property
    def is_wide(self) -> bool:
        """Whether the weights span so much that only a logarithmic axis shows their small values."""
        low, high = (float(f(self.weight)) for f in (np.nanmin, np.nanmax))
        return low > 0 and high / low >= 3

    @property
    def least_shown(self) -> float:
        """Where a logarithmic axis begins: a thousandth of the highest weight, since 1e-14 is drawn as 0.01 is."""
        return float(np.nanmax(self.weight)) / 1000

    @property
    def is_constant(self) -> bool:
        """Whether no weight ever left its first value."""
        return bool(np.nanmax(self.weight) == np.nanmin(self.weight)) if self.weight.size else True


@dataclass
class History:
    """All that a run recorded."""

    run: Run
    record: dict[str, Any]
    topics: TopicCourses | None = None
    """None before the first interval has ended."""
    metrics: dict[tuple[str, str], Course] = field(default_factory=dict)
    """By name and domain."""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def policy(self) -> str:
        """Name of the run's policy."""
        return str(self.record.get("config", {}).get("policy", {}).get("name", self.name))

    def only(self, sources: Sequence[str]) -> History:
        """The same with the learning curves of some sources alone, `macro` their mean where all were measured."""
        curves = {domain: self.metrics[CURVE, domain] for domain in sources if (CURVE, domain) in self.metrics}
        kept = {key: course for key, course in self.metrics.items() if key[0] != CURVE}
        kept |= {(CURVE, domain): course for domain, course in curves.items()}
        if curves:
            steps = reduce(np.intersect1d, [course.steps for course in curves.values()])
            first, *_ = curves.values()
            values = [course.values[np.isin(course.steps, steps)] for course in curves.values()]
            mean = Course(steps, first.tokens[np.isin(first.steps, steps)], np.mean(values, axis=0))
            kept[CURVE, MACRO] = mean
        return replace(self, metrics=kept)

    def domains(self, name: str) -> list[str]:
        """The domains of a metric, averages left out."""
        return sorted(d for n, d in self.metrics if n == name and d not in (ALL_DOMAINS, MACRO))


def find_recorded_runs(names: Sequence[str], workdir: Workdir) -> list[Run]:
    """`find_runs`; without names, runs that have recorded nothing yet are left out with a warning, unless all are such.

    Raises:
        UsageError: no such run; says which there are.
    """
    runs = find_runs(names, workdir)
    tables = (WEIGHTS.name, METRICS.name)
    empty = [run for run in runs if not any(any((run.folder / name).glob("*.parquet")) for name in tables)]
    if names or len(empty) == len(runs):
        return runs
    for run in empty:
        console.warn(f"run {run.name} is left out: it has recorded nothing yet")
    return [run for run in runs if run not in empty]


def read_history(run: Run) -> History:
    """Read a run's tables.

    Raises:
        TableError: the run has recorded nothing, or a table is damaged.
    """
    history = History(run, run.record, read_topics(run), _metric_courses(_rows(run, METRICS)))
    if history.topics is not None:
        history.topics.extra.update(_by_topic(history.topics, history.metrics))
    if history.topics is None and not history.metrics:
        state = "it has not come to its first interval yet" if run.is_going else "expected weights/ and metrics/"
        raise TableError(f"{run.folder}: the run has recorded nothing ({state})")
    return history


def read_topics(run: Run) -> TopicCourses | None:
    """Read a run's table `weights`; None before the first interval has ended.

    Raises:
        TableError: it is damaged.
    """
    rows = _rows(run, WEIGHTS)
    return _topic_courses(rows) if rows else None


def _rows(run: Run, table: Table) -> list[dict[str, Any]]:
    folder = run.folder / table.name
    return TableReader(folder, table).read().to_pylist() if any(folder.glob("*.parquet")) else []


def _topic_courses(rows: Sequence[dict[str, Any]]) -> TopicCourses:
    topics = list(dict.fromkeys(row["topic"] for row in rows))
    column = {topic: index for index, topic in enumerate(topics)}
    points = {row["step"]: (row["tokens_seen"], row["stage"]) for row in rows}
    steps = sorted(points)
    line = {step: index for index, step in enumerate(steps)}
    arrays = {name: np.full((len(steps), len(topics)), np.nan) for name in ("weight", "loss", "num_samples")}
    for row in rows:
        for name, array in arrays.items():
            if row[name] is not None:
                array[line[row["step"]], column[row["topic"]]] = row[name]
    return TopicCourses(
        topics,
        np.array(steps, dtype=np.int64),
        np.array([points[s][0] for s in steps], dtype=np.int64),
        np.array([points[s][1] for s in steps], dtype=np.int32),
        arrays["weight"],
        arrays["loss"],
        arrays["num_samples"],
    )


def _by_topic(courses: TopicCourses, metrics: dict[tuple[str, str], Course]) -> dict[str, np.ndarray]:
    """Metrics whose domain is a topic, as arrays of shape (num_intervals, num_topics)."""
    found = {}
    for name in TOPIC_METRICS:
        values = np.full(courses.weight.shape, np.nan)
        for index, topic in enumerate(courses.topics):
            course = metrics.get((name, topic))
            if course is not None:
                _, here, there = np.intersect1d(courses.steps, course.steps, return_indices=True)
                values[here, index] = course.values[there]
        if not np.isnan(values).all():
            found[name] = values
    return found


def _metric_courses(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], Course]:
    points: dict[tuple[str, str], dict[int, tuple[int, float]]] = {}
    for row in rows:
        points.setdefault((row["name"], row["domain"]), {})[row["step"]] = (row["tokens_seen"], row["value"])
    courses = {}
    for key, by_step in points.items():
        steps = sorted(by_step)
        tokens, values = zip(*(by_step[s] for s in steps), strict=True)
        courses[key] = Course(np.array(steps), np.array(tokens), np.array(values, dtype=float))
    return courses
