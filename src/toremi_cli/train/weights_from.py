"""`--weights-from`: another run's weights on this run's topics, by name or, from another clustering, by likeness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli import console
from toremi_cli.layout import Workdir
from toremi_cli.portraits import Portraits, paint, similarities
from toremi_cli.reweight import weight_course
from toremi_cli.reweight.policies.data import WeightCourse
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import ANNOTATED, TOPIC_WEIGHTS
from toremi_cli.tables import TableReader
from toremi_cli.train.config import TrainConfig

LEAST_LIKENESS = {"centres": 0.7, "words": 0.5}
"""Of a topic and the one that it takes its weight from: benchmarks/topic_likeness.py."""
LEAST_AGREEMENT = 0.5
"""Part of the text whose topics have such a one."""


def course_from(config: TrainConfig, topics: list[str]) -> WeightCourse | None:
    """The weights that `--weights-from` names, None where it names none.

    A topic that is like none of theirs weighs 1. A table without `step` holds from the first step on.

    Raises:
        TableError: no such table.
        ValueError: weights of other topics that can't be mapped, or of too unlike a corpus.
    """
    if not config.weights_from:
        return None
    reader = TableReader(Path(config.weights_from), TOPIC_WEIGHTS)
    rows = reader.read().to_pylist()
    if not _is_of_other_topics(config, reader, {row["topic"] for row in rows}, topics):
        try:
            return weight_course(((row.get("step") or 0, row["topic"], row["weight"]) for row in rows), topics)
        except ValueError as problem:
            raise ValueError(
                f"--weights-from {config.weights_from}: {problem}; where they are of another clustering, give what "
                "`toremi export RUN --to weights` writes"
            ) from None
    workdir = Workdir(Path(config.workdir))
    ours = paint(config.annotated_path, SampleTopics(config.topics, workdir.topics, config.annotated_path), workdir)
    theirs = _portraits(rows, (reader.record or {}).get("inputs", {}).get("vectors", ""))
    weights = _mapped(ours, theirs, [row["weight"] for row in rows], config.weights_from)
    return weight_course(((0, topic, weights.get(topic, 1.0)) for topic in topics), topics)


def _is_of_other_topics(config: TrainConfig, reader: TableReader, named: set[str], topics: list[str]) -> bool:
    """Whether names mean something else there: fine topics are named anew by each clustering."""
    record = reader.record or {}
    theirs = record.get("config", {}).get("topics")
    if "words" not in reader.schema.names or theirs is None:
        return False  # by name, or not at all
    if named >= set(topics) and theirs == config.topics and theirs in ("labels", "source"):
        return False
    ours = TableReader(config.annotated_path, ANNOTATED).fingerprint
    return not (named >= set(topics) and record["inputs"].get(ANNOTATED.name) == ours)


def _portraits(rows: list[dict[str, Any]], space: str) -> Portraits:
    words = [dict(zip(row["words"], row["word_shares"], strict=True)) for row in rows]
    dim = max(len(row["centre"] or ()) for row in rows)
    centres = np.array([row["centre"] or [0.0] * dim for row in rows]) if dim else None
    return Portraits([row["topic"] for row in rows], words, centres, space, np.ones(len(rows)))


def _mapped(ours: Portraits, theirs: Portraits, weights: list[float], path: str) -> dict[str, float]:
    """The weight of the likest of their topics for each of ours that has a like one."""
    likeness, by = similarities(ours, theirs)
    nearest, best = likeness.argmax(axis=1), likeness.max(axis=1)
    is_like = best >= LEAST_LIKENESS[by]
    agreement = float(ours.sizes[is_like].sum() / max(ours.sizes.sum(), 1))
    found = (
        f"--weights-from {path}: by {by}, {int(is_like.sum())} of {len(best)} topics, {agreement:.0%} of the text, "
        f"are like one of its {len(theirs.topics)}"
    )
    if agreement < LEAST_AGREEMENT:
        raise ValueError(
            f"{found}; expected {LEAST_AGREEMENT:.0%}: the corpora are too unlike for one's weights to serve the other"
        )
    console.note(found + ("" if is_like.all() else "; the others weigh 1"))
    return {ours.topics[i]: weights[nearest[i]] for i in np.flatnonzero(is_like)}
