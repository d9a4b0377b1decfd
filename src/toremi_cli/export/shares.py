"""From topic weights, a run's or a policy's by size alone, to shares of a mixture.

A sample's weight is the mean of its topics' weights, as in training (1 where it has no topic). The share of a topic or
source is that of its training tokens, each times its sample's weight: what a stream would hold that drew every sample
in proportion to its weight. A sample with several topics counts for each in equal parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from toremi_cli import __version__, console
from toremi_cli.corpus.hashing import keyed_hash
from toremi_cli.errors import TableError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.runs.history import History
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import ANNOTATED, TRAIN
from toremi_cli.tables import TableReader

if TYPE_CHECKING:
    from toremi_cli.reweight import PolicyConfig

NO_LABEL = "(no topic)"
"""Name under which samples without a topic are summed; their weight is 1."""


def learnt_weights(history: History, which: str) -> dict[str, float]:
    """Weight of each topic: at the run's end, or averaged over its tokens, each update counting for the interval that
    it ends: DoReMi's result (arXiv 2305.10429, algorithm 1) is the mean over all updates, without the start.

    Raises:
        TableError: the run has no weights yet.
    """
    courses = history.topics
    if courses is None:
        raise TableError(f"{history.run.folder / 'weights'}: no weights there yet; train the run further")
    if which == "final":
        values = courses.weight[-1]
    else:
        spans = np.diff(courses.tokens, prepend=0).astype(float)
        values = (courses.weight * spans[:, None]).sum(axis=0) / spans.sum()
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

    origin: dict[str, Any]
    """Whose weights they are, for the record: a run and which of its weights, or a policy and its topics."""
    annotated: Path
    """The table whose samples it counts."""
    weights: dict[str, float]
    by_topic: dict[str, Part] = field(default_factory=dict)
    by_source: dict[str, Part] = field(default_factory=dict)
    tokens: int = 0
    weighted: float = 0.0

    def parts(self, by: str) -> dict[str, Part]:
        """The parts by 'topic' or 'source', by name."""
        return dict(sorted((self.by_topic if by == "topic" else self.by_source).items()))

    def shares(self, by: str) -> dict[str, float]:
        """Share of each part; they sum to exactly 1."""
        return exact_shares({name: part.weighted for name, part in self.parts(by).items()})

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **self.origin,
            "tokens": self.tokens,
            **{f"{by}s": self._rows(by) for by in ("topic", "source")},
        }

    def _rows(self, by: str) -> list[dict[str, Any]]:
        rows, shares = [], self.shares(by)
        natural = exact_shares({name: part.tokens for name, part in self.parts(by).items()})
        for name, part in self.parts(by).items():
            weight = self.weights.get(name, 1.0) if by == "topic" else part.weighted / part.tokens
            both = {"corpus_share": natural[name], "share": shares[name]}
            rows.append({by: name, "weight": weight, "tokens": round(part.tokens), **both})
        return rows


def exact_shares(amounts: Mapping[str, float]) -> dict[str, float]:
    """Amounts, at least 0 and not all 0, as shares that sum to exactly 1 in whatever order a reader adds them.

    Each is a multiple of 2^-53: so is every partial sum, and up to 1 float64 holds those without rounding. The largest
    share takes what rounding leaves; what is above 0 stays so.
    """
    total = math.fsum(amounts.values())
    units = {name: max(int(amount / total * 2**53), amount > 0) for name, amount in amounts.items()}
    units[max(units, key=lambda name: units[name])] += 2**53 - sum(units.values())
    return {name: count / 2**53 for name, count in units.items()}


def part_of(row: dict[str, Any], topics: dict[str, float], by: str) -> str:
    """The source of a sample, or one of its `topics` by a hash of its id, each as often as its share says."""
    if by == "source":
        return str(row["source"])
    place = keyed_hash("part", row["sample_id"]) / 2**64
    for name, part in topics.items():
        place -= part
        if place < 0:
            return name
    return next(reversed(topics), NO_LABEL)


def training_rows(annotated: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The training samples of an annotated table, one after another."""
    for batch in TableReader(annotated, ANNOTATED).iter_batches(list(dict.fromkeys(columns))):
        train = batch.filter(pc.equal(batch.column("split"), TRAIN))
        yield from train.to_pylist()


def mixture_of(history: History, workdir: Workdir, which: str) -> tuple[Mixture, SampleWeigher]:
    """The mixture of a run's `which` weights: one pass over the annotated corpus that it was trained on.

    Raises:
        TableError: no weights, or no annotated corpus.
    """
    annotated = history.run.annotated(workdir)
    topics = SampleTopics(history.run.topic_mode, workdir.topics, annotated)
    weigher = SampleWeigher(topics, learnt_weights(history, which))
    mixture = _counted(weigher, annotated, {"run": history.name, "weights": which})
    if gone := sorted(weigher.weights.keys() - mixture.by_topic.keys()):  # each had a training sample in the run
        found = (
            f"{annotated}: has no sample of {len(gone)} of the {len(weigher.weights)} topics of run {history.name}, "
            f"such as {gone[0]!r}: clustered or labelled anew since, or not what the run trained on"
        )
        if len(gone) == len(weigher.weights):
            raise TableError(f"{found}; give back that table and its topics")
        console.warn(f"{found}; topics that the run didn't know weigh 1")
    return mixture, weigher


def static_mixture(config: PolicyConfig, mode: str, workdir: Workdir) -> tuple[Mixture, SampleWeigher]:
    """The mixture of a policy that goes by the sizes of topics, in tokens: two passes over the annotated corpus.

    Args:
        config: of a policy whose weights are known before training.
        mode: what a sample's topics are, one of `policy_config.TOPIC_MODES`.
        workdir: holds the corpus.

    Raises:
        UsageError: the policy's weights are only known by training.
        TableError: no annotated corpus, or no sample in it has a topic.
    """
    from toremi_cli.reweight import POLICIES, PolicyData, make_policy, policy_class

    if not policy_class(config.name).static:
        there = ", ".join(name for name, policy in POLICIES.items() if policy.static)
        raise UsageError(f"--policy {config.name}: its weights come of training; name a run, or one of {there}")
    topics = SampleTopics(mode, workdir.topics, workdir.annotated)
    corpus = _counted(SampleWeigher(topics, {}), workdir.annotated, {})
    sizes = {name: part.tokens for name, part in corpus.parts("topic").items() if name != NO_LABEL}
    if not sizes:
        raise TableError(f"{workdir.annotated}: no training sample has a topic by --topics {mode}; use another of them")
    policy = make_policy(config, list(sizes), PolicyData(sizes=list(sizes.values())))
    weigher = SampleWeigher(topics, dict(zip(sizes, policy.weights.tolist(), strict=True)))
    return _counted(weigher, workdir.annotated, {"policy": config.name, "topics_by": mode}), weigher


def _counted(weigher: SampleWeigher, annotated: Path, origin: dict[str, Any]) -> Mixture:
    made_of = {"annotated": TableReader(annotated, ANNOTATED).fingerprint, "toremi": __version__}
    mixture = Mixture({**origin, **made_of}, annotated, weigher.weights)
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
    return mixture
