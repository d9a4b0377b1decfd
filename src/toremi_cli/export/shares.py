"""From a run's topic weights to shares of a mixture.

A sample's weight is the mean of its topics' weights, as in training (1 where it has no topic). The share of a topic or
source is that of its training tokens, each times its sample's weight: what a stream would hold that drew every sample
in proportion to its weight. A sample with several topics counts for each in equal parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from toremi_cli.errors import TableError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.runs.history import History
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import ANNOTATED, TRAIN
from toremi_cli.tables import TableReader

WEIGHTS = ("final", "mean")
NO_LABEL = "(no topic)"
"""Name under which samples without a topic are summed; their weight is 1."""


def learnt_weights(history: History, which: str) -> dict[str, float]:
    """Weight of each topic: at the run's end, or averaged over its tokens.

    Raises:
        UsageError: `which` is unknown.
        TableError: the run has no weights yet.
    """
    if which not in WEIGHTS:
        raise UsageError(f"--weights {which}: expected {' or '.join(WEIGHTS)}")
    courses = history.topics
    if courses is None:
        raise TableError(f"{history.run.folder / 'weights'}: no weights there yet; train the run further")
    if which == "final":
        values = courses.weight[-1]
    else:  # the weights after an interval are in force during the next one; before the first they are 1
        spans = np.diff(courses.tokens, prepend=0).astype(float)
        in_force = np.vstack([np.ones(len(courses.topics)), courses.weight[:-1]])
        values = (in_force * spans[:, None]).sum(axis=0) / spans.sum()
    return {topic: float(value) for topic, value in zip(courses.topics, values, strict=True)}


class SampleWeigher:
    """Weights of samples of the annotated table."""

    def __init__(self, topics: SampleTopics, weights: dict[str, float]) -> None:
        """`topics` chooses a sample's topics as the run does; `weights` are the run's, by topic."""
        self.topics, self.weights = topics, weights
        self.columns = ["source", "split", "num_tokens", *topics.columns]

    def weigh(self, row: dict[str, Any]) -> float:
        """A sample's weight; topics that the run never saw weigh 1."""
        topics = self.topics.of(row)
        return sum(part * self.weights.get(name, 1.0) for name, part in topics.items()) if topics else 1.0


@dataclass
class Part:
    """A topic or a source of the mixture."""

    tokens: float = 0.0
    """Training tokens in the corpus."""
    weighted: float = 0.0
    """The same, each times its sample's weight."""


@dataclass
class Mixture:
    """Shares by topic and by source."""

    run: str
    which: str
    annotated: Path
    """The table whose samples it counts."""
    weights: dict[str, float]
    by_topic: dict[str, Part] = field(default_factory=dict)
    by_source: dict[str, Part] = field(default_factory=dict)
    tokens: int = 0
    weighted: float = 0.0

    def parts(self, by: str) -> dict[str, Part]:
        """The parts by 'topic' or 'source', by name.

        Raises:
            UsageError: neither of the two.
        """
        if by not in ("topic", "source"):
            raise UsageError(f"--by {by}: expected topic or source")
        return dict(sorted((self.by_topic if by == "topic" else self.by_source).items()))

    def shares(self, by: str) -> dict[str, float]:
        """Share of each part; they sum to 1."""
        return {name: part.weighted / self.weighted for name, part in self.parts(by).items()}

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "run": self.run,
            "weights": self.which,
            "tokens": self.tokens,
            **{f"{by}s": self._rows(by) for by in ("topic", "source")},
        }

    def _rows(self, by: str) -> list[dict[str, Any]]:
        rows = []
        for name, part in self.parts(by).items():
            weight = self.weights.get(name, 1.0) if by == "topic" else part.weighted / part.tokens
            shares = {"corpus_share": part.tokens / self.tokens, "share": part.weighted / self.weighted}
            rows.append({by: name, "weight": weight, "tokens": round(part.tokens), **shares})
        return rows


def training_rows(annotated: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The training samples of an annotated table, one after another."""
    for batch in TableReader(annotated, ANNOTATED).iter_batches(list(dict.fromkeys(columns))):
        train = batch.filter(pc.equal(batch.column("split"), TRAIN))
        yield from train.to_pylist()


def build_mixture(history: History, workdir: Workdir, which: str) -> tuple[Mixture, SampleWeigher]:
    """One pass over the annotated corpus that the run was trained on.

    Raises:
        TableError: no weights, or no annotated corpus.
    """
    weights = learnt_weights(history, which)
    annotated = history.run.annotated(workdir)
    weigher = SampleWeigher(SampleTopics(history.run.topic_mode, workdir.topics), weights)
    mixture = Mixture(history.name, which, annotated, weights)
    for row in training_rows(annotated, weigher.columns):
        tokens, weight = row["num_tokens"], weigher.weigh(row)
        mixture.tokens += tokens
        mixture.weighted += tokens * weight
        for parts, shares in (
            (mixture.by_source, {row["source"]: 1.0}),
            (mixture.by_topic, weigher.topics.of(row) or {NO_LABEL: 1.0}),
        ):
            for name, share in shares.items():
                part = parts.setdefault(name, Part())
                part.tokens += tokens * share
                part.weighted += tokens * weight * share
    if mixture.weighted <= 0:
        raise TableError(f"{annotated}: no training tokens there; annotate a corpus first")
    return mixture, weigher
