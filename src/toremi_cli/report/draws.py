"""What runs drew: each topic's share of the tokens, over the run and over its steps, and how two runs differ in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toremi_cli.layout import Workdir
from toremi_cli.report.seed_groups import SeedGroup
from toremi_cli.sample_topics import SampleTopics, belong_together
from toremi_cli.schemas import ANNOTATED, TOPICS, TRAIN
from toremi_cli.tables import TableReader

MOST_BINS = 24
"""Points of a course: an interval alone may hold a handful of samples of a topic."""
NOTICEABLE = 0.005
"""Difference in shares from which a topic counts as drawn less or more."""
SEARCHED_SAMPLES = 20_000
"""Samples among which a topic's text is looked for."""


@dataclass(frozen=True)
class Draws:
    """A run's draws: `steps` (num_bins,), `shares` (num_bins, num_topics) and `total` (num_topics,), which sum to 1."""

    topics: list[str]
    steps: np.ndarray
    shares: np.ndarray
    total: np.ndarray


@dataclass(frozen=True)
class Shift:
    """A topic's share of the baseline's draws and of the run's."""

    topic: str
    before: float
    after: float
    text: str = ""
    """The beginning of the sample that is the most certain of the topic."""


def draws_of(group: SeedGroup, lengths: dict[str, float]) -> Draws | None:
    """What a run drew, or the runs of several seeds together; None where it recorded no topics.

    Args:
        group: the runs.
        lengths: mean tokens of a topic's samples; where a topic is missing, all count alike.
    """
    courses = group.topics
    if courses is None:
        return None
    known = all(topic in lengths for topic in courses.topics)
    length = np.array([lengths[topic] if known else 1.0 for topic in courses.topics])
    tokens = np.nan_to_num(courses.num_samples) * length
    if not tokens.sum():
        return None
    parts = np.array_split(np.arange(len(tokens)), min(len(tokens), MOST_BINS))
    binned = np.stack([tokens[part].sum(axis=0) for part in parts])
    shares = binned / np.maximum(binned.sum(axis=1, keepdims=True), 1e-300)
    steps = np.array([courses.steps[part[-1]] for part in parts])
    return Draws(courses.topics, steps, shares, tokens.sum(axis=0) / tokens.sum())


def sample_lengths(topics: Path) -> dict[str, float]:
    """Mean tokens of each topic's samples, by the table `topics`; empty where there is none."""
    if not topics.is_file():
        return {}
    rows = TableReader(topics, TOPICS).read(["name", "num_samples", "num_tokens"]).to_pylist()
    return {row["name"]: row["num_tokens"] / max(row["num_samples"], 1) for row in rows}


def shifts(baseline: Draws | None, own: Draws | None) -> list[Shift]:
    """The topics that are drawn noticeably less or more, those that lost most first; empty if topics differ."""
    if baseline is None or own is None or set(baseline.topics) != set(own.topics):
        return []
    before = dict(zip(baseline.topics, baseline.total.tolist(), strict=True))
    found = [Shift(topic, before[topic], after) for topic, after in zip(own.topics, own.total.tolist(), strict=True)]
    found = [shift for shift in found if abs(shift.after - shift.before) >= NOTICEABLE]
    return sorted(found, key=lambda shift: shift.after - shift.before)


def with_texts(found: Sequence[Shift], workdir: Workdir, mode: str) -> list[Shift]:
    """The same with a text each, as far as the annotated corpus is there and of these topics.

    Args:
        found: topics.
        workdir: of the corpus.
        mode: the runs' `--topics`; empty: not known.
    """
    if not mode or not workdir.annotated.exists():
        return list(found)
    topics = SampleTopics(mode, workdir.topics)
    best: dict[str, tuple[float, str]] = {shift.topic: (-1.0, "") for shift in found}
    reader = TableReader(workdir.annotated, ANNOTATED)
    if mode == "fine" and not belong_together(reader, workdir.topics):
        return list(found)
    columns = {"text", *topics.columns, *({"split", "probs"} & set(reader.schema.names))}
    done = 0
    for batch in reader.iter_batches(sorted(columns)):
        for row in batch.to_pylist():
            sure = max(row.get("probs") or [0.0])
            for name in topics.of(row) if row.get("split", TRAIN) == TRAIN else ():
                if name in best and sure > best[name][0]:
                    best[name] = (sure, row["text"])
        done += len(batch)
        if done >= SEARCHED_SAMPLES:
            break
    return [replace(shift, text=best[shift.topic][1]) for shift in found]
