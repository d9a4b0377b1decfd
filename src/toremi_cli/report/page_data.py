"""The numbers that the page's charts draw, thinned and rounded: what goes into it as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli.layout import Workdir
from toremi_cli.plane import principal, spread
from toremi_cli.report.seed_groups import SeedGroup
from toremi_cli.runs.history import CURVE, TopicCourses
from toremi_cli.schemas import ANNOTATED, CLUSTERS, EMBEDDINGS, MACRO, TOPICS
from toremi_cli.tables import TableReader

MOST_POINTS = 300
"""Points of a curve on the page."""
NAMED = 8
CROPPED_START = 0.15
"""Share of the steps whose fall may leave a panel of learning curves."""
MAP_SAMPLES = 20_000
MOST_DISCS = 150
"""Topics on the map, the largest."""


def rounded(values: np.ndarray) -> list[float | None]:
    """Five significant digits, None for what is not a number."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()]


def thinned(count: int) -> np.ndarray:
    """Indices of at most `MOST_POINTS` of `count` points, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))


def run_data(group: SeedGroup, chosen: Sequence[str]) -> dict[str, Any]:
    """A run's charts by topic, or the means of its seeds: weights, losses and, where it recorded it, sensitivity.

    The topics `chosen` are brought out, in this order: it gives them their colours.
    """
    courses = group.topics
    assert courses is not None
    kept = thinned(len(courses.steps))
    weight = np.maximum(courses.weight, courses.least_shown) if courses.is_wide else courses.weight
    panels = [("weight", weight, courses.is_wide), ("loss, nats a token", courses.loss, False)]
    panels += [(name.replace("_", " "), values, False) for name, values in courses.extra.items()]
    return {
        "name": group.title,
        "topics": courses.topics,
        "steps": courses.steps[kept].tolist(),
        "switchStep": courses.switch_step if courses.switch_step != courses.steps[0] else None,
        "highlight": [courses.topics.index(topic) for topic in chosen],
        "panels": [
            {"title": title, "log": log, "values": [rounded(column) for column in values[kept].T]}
            for title, values, log in panels
        ],
    }


def curve_data(groups: Sequence[SeedGroup]) -> list[dict[str, Any]]:
    """Learning curves: the macro average, then each domain, a line a run or policy, a band around means of seeds."""
    domains = sorted({domain for group in groups for history in group.histories for domain in history.domains(CURVE)})
    panels = []
    for domain in [MACRO, *domains] if domains else []:
        series: list[dict[str, Any]] = []
        for group in groups:
            band = group.curve(domain)
            if band is not None:
                kept = thinned(len(band.steps))
                line: dict[str, Any] = {"name": group.name, "colour": group.colour, "dash": group.style}
                line |= {"x": band.steps[kept].tolist(), "y": rounded(band.mean[kept])}
                if len(group.histories) > 1:
                    line |= {"low": rounded(band.low[kept]), "high": rounded(band.high[kept])}
                series.append(line)
        long_enough = max((len(s["x"]) for s in series), default=0) >= NAMED
        title = "macro average" if domain == MACRO else domain.replace("_", " ")
        panels.append({"title": title, "crop": CROPPED_START if long_enough else 0, "series": series})
    return [panel for panel in panels if panel["series"]]


def map_data(workdir: Workdir, courses: TopicCourses | None) -> list[dict[str, Any]]:
    """The topics of the corpus as discs, near each other where their text is alike; empty where tables are missing."""
    folders: tuple[Path, ...] = (workdir.embeddings, workdir.clusters, workdir.topics)
    if not all(path.exists() for path in folders):
        return []
    topics = TableReader(workdir.topics, TOPICS).read().to_pylist()
    centres = _centres(workdir, len(topics))
    shown = [i for i, topic in enumerate(topics) if topic["num_samples"] > 0 and np.isfinite(centres[i]).all()]
    shown = sorted(sorted(shown, key=lambda i: -topics[i]["num_samples"])[:MOST_DISCS])
    if len(shown) < 3:
        return []
    places = spread(principal(centres[shown]))
    weights = dict(zip(courses.topics, courses.weight[-1].tolist(), strict=True)) if courses else {}
    found = []
    for (x, y), index in zip(places.tolist(), shown, strict=True):
        topic = topics[index]
        own = [topic["name"]] if topic["name"] in weights else topic["labels"] or []  # by what the run weighs
        known = [weights[name] for name in own if name in weights]
        found.append(
            {
                "name": topic["name"],
                "words": ", ".join((topic["words"] or [])[:8]),
                "labels": ", ".join(topic["labels"] or []) or "none",
                "size": topic["num_samples"],
                "weight": float(f"{np.mean(known):.4g}") if known else None,
                "x": round(x, 4),
                "y": round(y, 4),
            }
        )
    return found


def _centres(workdir: Workdir, num_topics: int) -> np.ndarray:
    """(num_topics, dim) mean vector of each topic's first samples, nan for a topic without any."""
    vectors = TableReader(workdir.embeddings, EMBEDDINGS).iter_batches(["vector"])
    topics = TableReader(workdir.clusters, CLUSTERS).iter_batches(["topic"])
    sums: np.ndarray | None = None
    counts = np.zeros(num_topics)
    done = 0
    for batch, ids in zip(vectors, topics, strict=False):
        if done >= MAP_SAMPLES or len(batch) != len(ids):
            break
        column = batch.column("vector")
        rows = np.asarray(column.flatten()).reshape(len(batch), -1).astype(float)
        sums = np.zeros((num_topics, rows.shape[1])) if sums is None else sums
        own = np.asarray(ids.column("topic"))
        known = (own >= 0) & (own < num_topics)
        np.add.at(sums, own[known], rows[known])
        counts += np.bincount(own[known], minlength=num_topics)
        done += len(batch)
    if sums is None:
        return np.full((num_topics, 2), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / counts[:, None]


def corpus_facts(workdir: Workdir) -> str:
    """One line on the annotated corpus; empty where it is gone."""
    if not workdir.annotated.exists():
        return ""
    reader = TableReader(workdir.annotated, ANNOTATED)
    return f"{reader.num_rows:,} samples, fingerprint {reader.fingerprint}"
