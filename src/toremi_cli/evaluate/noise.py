"""`toremi eval --noise`: does a run tell planted noise from text, how soon, and what does that spare the clean domains?

A run on a table of `toremi corrupt` is judged by that table's column `corrupted`. The weight of a sample is the mean of
its topics' weights; the AUROC is the chance that a corrupted sample weighs less than a clean one (ties count half).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toremi_cli.errors import TableError
from toremi_cli.evaluate.bootstrap import bits_per_byte
from toremi_cli.evaluate.run_facts import read_facts
from toremi_cli.layout import Workdir
from toremi_cli.runs.history import History, TopicCourses, read_history
from toremi_cli.runs.run import Run
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import ANNOTATED, CORRUPTED, TRAIN, source_domain
from toremi_cli.tables import TableReader

PASSED = 0.9
MOSTLY = 0.5
"""Share of its training samples from which a topic or source counts as noisy."""


Topics = tuple[tuple[str, float], ...]
"""A sample's topics, each with its part of the sample; a mixture's parts in hundredths, to group samples."""


@dataclass
class Truth:
    """How many training samples of each set of topics are clean and corrupted."""

    clean: Counter[Topics] = field(default_factory=Counter)
    corrupted: Counter[Topics] = field(default_factory=Counter)
    sources: dict[str, float] = field(default_factory=dict)
    """Share of each source's training samples that is corrupted."""

    def noisy_topics(self) -> list[str]:
        """Topics of whose samples, by their parts, at least half are corrupted."""
        clean, noisy = defaultdict[str, float](float), defaultdict[str, float](float)
        for counts, sums in ((self.clean, clean), (self.corrupted, noisy)):
            for topics, number in counts.items():
                for topic, part in topics:
                    sums[topic] += number * part
        return sorted(topic for topic in noisy if noisy[topic] / (noisy[topic] + clean[topic]) >= MOSTLY)


@dataclass(frozen=True)
class NoiseReport:
    """How one run dealt with the noise; nan or None for what is unknown."""

    run: str
    policy: str
    noisy_topics: list[str]
    noisy_weight: float
    """Mean final weight of the noisy topics."""
    clean_weight: float
    """Mean final weight of the others."""
    noise_taken: float
    """Part of the run that its weights gave to corrupted samples, over their part of all samples: 1 as in `uniform`."""
    auroc: float
    """At the end of the run."""
    passed_step: int | None
    """First step at which the AUROC reached 0.9."""
    clean_bits_per_byte: float
    """Macro average on the suite over the sources that are clean."""
    noisy_bits_per_byte: float
    """The same over the noisy sources, whose held-out text may be clean."""
    course: list[tuple[int, float, float, float]]
    """By interval: step, AUROC, mean weight of the noisy topics, of the others."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        values = asdict(self)
        keys = ("step", "auroc", "noisy_weight", "clean_weight")
        values["course"] = [dict(zip(keys, point, strict=True)) for point in self.course]
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def noise_reports(runs: Sequence[Run], workdir: Workdir, suite: str) -> list[NoiseReport]:
    """Judge runs; those that were not trained on a corrupted table take the truth of the first that was.

    Raises:
        TableError: none of the runs was trained on a corrupted table.
    """
    tables = [run.annotated(workdir) for run in runs]
    corrupted = [path for path in tables if path.exists() and CORRUPTED in TableReader(path, ANNOTATED).schema.names]
    if not corrupted:
        raise TableError(
            f"{', '.join(run.name for run in runs)}: none was trained on a table with a column '{CORRUPTED}'; make one "
            "with `toremi corrupt` and train on it with --annotated"
        )
    reports = []
    for run, path in zip(runs, tables, strict=True):
        judged_by = path if path in corrupted else corrupted[0]
        reports.append(judge(run, read_truth(judged_by, run, workdir), suite))
    return reports


def read_truth(path: Path, run: Run, workdir: Workdir) -> Truth:
    """Count clean and corrupted training samples by the topics that the run gave them."""
    of_sample = SampleTopics(run.topic_mode, workdir.topics, path)
    truth = Truth()
    sources: dict[str, list[int]] = {}
    columns = list(dict.fromkeys(["split", "source", *of_sample.columns, CORRUPTED]))
    for batch in TableReader(path, ANNOTATED).iter_batches(columns):
        for row in batch.filter(pc.equal(batch.column("split"), pa.scalar(TRAIN))).to_pylist():
            topics = tuple(sorted((topic, round(part, 2)) for topic, part in of_sample.of(row).items()))
            (truth.corrupted if row[CORRUPTED] else truth.clean)[topics] += 1
            count = sources.setdefault(row["source"], [0, 0])
            count[0] += 1
            count[1] += bool(row[CORRUPTED])
    truth.sources = {source_domain(source): noisy / total for source, (total, noisy) in sources.items()}
    return truth


def judge(run: Run, truth: Truth, suite: str) -> NoiseReport:
    """One run against the truth."""
    history = read_history(run)
    noisy = truth.noisy_topics()
    course = _course(history, truth, noisy)
    last = course[-1] if course else (0, math.nan, math.nan, math.nan)
    passed = next((step for step, score, _, _ in course if score >= PASSED), None)
    clean, dirty = _held_out(run, truth, suite)
    taken = noise_taken(truth, history.topics)
    return NoiseReport(run.name, history.policy, noisy, last[2], last[3], taken, last[1], passed, clean, dirty, course)


def _course(history: History, truth: Truth, noisy: Sequence[str]) -> list[tuple[int, float, float, float]]:
    courses = history.topics
    if courses is None:
        return []
    is_noisy = np.array([topic in noisy for topic in courses.topics])
    found = []
    for index, step in enumerate(courses.steps.tolist()):
        weights = dict(zip(courses.topics, courses.weight[index].tolist(), strict=True))
        means = [float(courses.weight[index][m].mean()) if m.any() else math.nan for m in (is_noisy, ~is_noisy)]
        found.append((step, auroc(truth, weights), means[0], means[1]))
    return found


def noise_taken(truth: Truth, courses: TopicCourses | None) -> float:
    """Weights of corrupted samples over those of all, mean over the updates, over the same without weights."""
    natural = truth.corrupted.total() / max(truth.corrupted.total() + truth.clean.total(), 1)
    if courses is None or not natural:
        return math.nan
    parts = []
    for of_topics in courses.weight.tolist():
        weights = dict(zip(courses.topics, of_topics, strict=True))
        clean, noisy = (
            sum(number * weight_of(topics, weights) for topics, number in counts.items())
            for counts in (truth.clean, truth.corrupted)
        )
        parts.append(noisy / (clean + noisy))
    return float(np.mean(parts)) / natural


def weight_of(topics: Topics, weights: dict[str, float]) -> float:
    """Mean weight of a sample's topics, by its parts; 1 where it has none."""
    parts = sum(part for _, part in topics)
    return sum(part * weights.get(topic, 1.0) for topic, part in topics) / parts if topics else 1.0


def auroc(truth: Truth, weights: dict[str, float]) -> float:
    """Chance that a corrupted sample weighs less than a clean one; nan where there is only one kind."""
    groups: dict[float, list[int]] = {}
    for position, counts in enumerate((truth.clean, truth.corrupted)):
        for topics, number in counts.items():
            groups.setdefault(round(weight_of(topics, weights), 12), [0, 0])[position] += number
    num_clean, num_corrupted = truth.clean.total(), truth.corrupted.total()
    if not num_clean or not num_corrupted:
        return math.nan
    below, wins = 0, 0.0  # corrupted samples of smaller weight than the group's
    for weight in sorted(groups):
        clean, corrupted = groups[weight]
        wins += clean * (below + corrupted / 2)
        below += corrupted
    return wins / (num_clean * num_corrupted)


def _held_out(run: Run, truth: Truth, suite: str) -> tuple[float, float]:
    """Mean bits per byte over the clean sources, and over the noisy ones."""
    scores = read_facts(run, suite).final
    if scores is None:
        return math.nan, math.nan
    values = bits_per_byte(scores)
    groups: tuple[list[float], list[float]] = ([], [])
    for source in scores.domains:
        groups[truth.sources.get(source, 0.0) >= MOSTLY].append(values[source])
    clean, noisy = (float(np.mean(group)) if group else math.nan for group in groups)
    return clean, noisy
