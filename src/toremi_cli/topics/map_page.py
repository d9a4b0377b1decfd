"""One self-contained page that shows a corpus: a map of its samples coloured by topic, and the table of topics."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from toremi_cli import __version__, console
from toremi_cli.errors import TableError
from toremi_cli.files import atomic_file
from toremi_cli.html_page import asset, render_page
from toremi_cli.layout import Workdir
from toremi_cli.schemas import CLUSTERS, EMBEDDINGS, NO_TOPIC, SAMPLES
from toremi_cli.tables import TableReader
from toremi_cli.topics.config import MapConfig
from toremi_cli.topics.map_places import GRID, project

SNIPPET_CHARACTERS = 240
PURPOSE = 0x6D6170
"""Parts the random stream of the map from others of the same seed."""
GOLDEN_ANGLE = 137.508
"""Hues this many degrees apart stay apart, however many there are."""
TABLE_WORDS = 10
TABLE_SOURCES = 3


@dataclass(frozen=True)
class Points:
    """Samples drawn for the map; arrays and lists of length num_points."""

    vectors: np.ndarray
    """(num_points, dim) float32"""
    topics: np.ndarray
    """(num_points,) int64"""
    sources: list[str]
    texts: list[str]


def write_map_page(workdir: Workdir, topics: Sequence[Mapping[str, Any]], path: Path, config: MapConfig) -> int:
    """Write the page, whole or not at all.

    Args:
        workdir: holds samples, embeddings and clusters.
        topics: rows of the table of topics, each with its `share`, in the order to show.
        path: the HTML file.
        config: how to draw.

    Returns:
        The number of points on the map.

    Raises:
        TableError: a table is missing, or they don't belong together.
    """
    points = draw_points(workdir, config)
    console.note(f"placing {len(points.texts):,} samples on the map ({config.projection})")
    places = project(points.vectors, config, workdir.map_places)
    page = render(topics, points, places, config)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return len(points.texts)


def draw_points(workdir: Workdir, config: MapConfig) -> Points:
    """Samples drawn at random, the same for the same seed, with vector, topic, source and the text's beginning."""
    readers = [
        (TableReader(workdir.samples, SAMPLES), ["sample_id", "source", "text"]),
        (TableReader(workdir.embeddings, EMBEDDINGS), ["sample_id", "vector"]),
        (TableReader(workdir.clusters, CLUSTERS), ["sample_id", "topic"]),
    ]
    first = readers[0][0]
    for reader, _ in readers[1:]:
        if reader.rows_per_shard != first.rows_per_shard:
            raise TableError(f"{reader.path}: holds other samples than {first.path}; run `toremi annotate` again")
    generator = np.random.default_rng([config.seed, PURPOSE])
    count = min(config.max_points, first.num_rows)
    chosen = np.sort(generator.choice(first.num_rows, count, replace=False))
    samples, vectors, clusters = (_pick(reader, columns, chosen) for reader, columns in readers)
    if (
        not [row["sample_id"] for row in samples]
        == [r["sample_id"] for r in vectors]
        == [r["sample_id"] for r in clusters]
    ):
        raise TableError(
            f"{workdir.root}: samples, embeddings and clusters differ in order; run `toremi annotate` again"
        )
    return Points(
        np.array([row["vector"] for row in vectors], dtype=np.float32),
        np.array([row["topic"] for row in clusters], dtype=np.int64),
        [row["source"] or "" for row in samples],
        [snippet(row["text"] or "") for row in samples],
    )


def _pick(reader: TableReader, columns: Sequence[str], chosen: np.ndarray) -> list[dict[str, Any]]:
    """The rows with the numbers `chosen` (rising), read as a stream."""
    rows: list[dict[str, Any]] = []
    start = 0
    for batch in reader.iter_batches(columns):
        inside = chosen[(chosen >= start) & (chosen < start + batch.num_rows)] - start
        if len(inside):
            rows += batch.take(inside).to_pylist()
        start += batch.num_rows
    return rows


def snippet(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: 4 * SNIPPET_CHARACTERS].split())
    return line if len(line) <= SNIPPET_CHARACTERS else line[: SNIPPET_CHARACTERS - 1].rstrip() + "…"


def render(topics: Sequence[Mapping[str, Any]], points: Points, places: np.ndarray, config: MapConfig) -> str:
    """The page's HTML."""
    num_samples = sum(topic["num_samples"] for topic in topics)
    sources = _source_sizes(topics)
    hues = {topic["topic"]: round(rank * GOLDEN_ANGLE % 360) for rank, topic in enumerate(topics)}
    facts = f"{num_samples:,} samples in {len(topics):,} topics, from {len(sources):,} sources"
    method = {"umap": "UMAP", "pca": "principal components"}[config.projection]
    parts = {
        "caption": html.escape(
            f"{len(points.texts):,} samples drawn at random, placed by {method} of their vectors. Near means similar; "
            "axes have no unit. Point at a dot to read it; choose a topic to see it alone. To come nearer: +, two "
            "fingers, or the wheel with Ctrl; then drag."
        ),
        "topics": "\n".join(_topic_row(topic, hues) for topic in topics),
        "sources": "\n".join(_source_row(name, sizes, sources, topics, hues) for name, sizes in sources.items()),
    }
    return render_page(
        "Topics",
        facts,
        Template(asset("toremi_cli.topics", "map.html")).substitute(parts),
        style=asset("toremi_cli.topics", "map.css"),
        script=asset("toremi_cli.topics", "map.js"),
        data=_data(topics, points, places, hues),
        footer=f"toremi {__version__}. Agreement says how far the word view and the vector view of a sample agree, "
        "0 to 1.",
    )


def _data(
    topics: Sequence[Mapping[str, Any]], points: Points, places: np.ndarray, hues: Mapping[int, int]
) -> dict[str, Any]:
    """What the script draws."""
    sizes = Counter(points.sources)
    names = sorted(sizes)
    order = sorted(range(len(names)), key=lambda index: -sizes[names[index]])
    number = {name: index for index, name in enumerate(names)}
    drawn = []
    for topic in topics:
        members = places[points.topics == topic["topic"]]
        middle = np.median(members, axis=0).round().astype(int).tolist() if len(members) else None
        drawn.append({"id": topic["topic"], "name": topic["name"], "hue": hues[topic["topic"]], "at": middle})
    return {
        "grid": GRID,
        "topics": drawn,
        "sources": names,
        "source_order": order,
        "source_hues": [round(order.index(index) * GOLDEN_ANGLE % 360) for index in range(len(names))],
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "topic": points.topics.tolist(),
        "source": [number[source] for source in points.sources],
        "text": points.texts,
        "none": NO_TOPIC,
    }


def _source_sizes(topics: Sequence[Mapping[str, Any]]) -> dict[str, Counter[int]]:
    """Samples of each source by topic, the largest source first."""
    sizes: dict[str, Counter[int]] = {}
    for topic in topics:
        for entry in topic["sources"] or ():
            sizes.setdefault(entry["source"], Counter())[topic["topic"]] += entry["num_samples"]
    return dict(sorted(sizes.items(), key=lambda item: (-item[1].total(), item[0])))


def _topic_row(topic: Mapping[str, Any], hues: Mapping[int, int]) -> str:
    labels = "" if topic["label_source"] == "name" else ", ".join(topic["labels"] or ()) or "–"
    entries = (topic["sources"] or [])[:TABLE_SOURCES]
    of = max(topic["num_samples"], 1)
    sources = ", ".join(f"{entry['source']} {entry['num_samples'] / of:.0%}" for entry in entries)
    more = len(topic["sources"] or []) - len(entries)
    agreement = "–" if topic["agreement"] is None else f"{topic['agreement']:.2f}"
    cells = (
        ("labels", "labels", labels),
        ("words", "words", ", ".join(topic["words"][:TABLE_WORDS])),
        ("number", "samples", f"{topic['num_samples']:,}"),
        ("number", "share", f"{topic['share']:.1%}"),
        ("number", "agreement", agreement),
        ("sources", "sources", sources + (f" and {more} more" if more > 0 else "")),
    )
    columns = "".join(f'<td class="{kind}" data-name="{name}">{html.escape(text)}</td>' for kind, name, text in cells)
    name = html.escape(topic["name"])
    button = f'<button type="button" data-topic="{topic["topic"]}" aria-pressed="false">{name}</button>'
    return f'<tr style="--hue:{hues[topic["topic"]]}"><th scope="row">{button}</th>{columns}</tr>'


def _source_row(
    name: str,
    sizes: Counter[int],
    sources: Mapping[str, Counter[int]],
    topics: Sequence[Mapping[str, Any]],
    hues: Mapping[int, int],
) -> str:
    """A bar as long as the source is large, parted by topic."""
    largest = max(other.total() for other in sources.values())
    names = {topic["topic"]: topic["name"] for topic in topics}
    parts = "".join(
        f'<i style="--hue:{hues[topic]};flex-grow:{count}" title="{html.escape(names[topic])}: {count:,}"></i>'
        for topic, count in sizes.most_common()
    )
    bar = f'<div class="bar" style="width:{100 * sizes.total() / largest:.2f}%">{parts}</div>'
    top = ", ".join(names[topic] for topic, _ in sizes.most_common(2))
    total = f"{sizes.total():,}"
    label = f'<span class="source">{html.escape(name)}</span><span class="count">{total}</span>'
    return f'<li>{label}<div class="track">{bar}</div><span class="top">{html.escape(top)}</span></li>'
