"""Writes the first `topics.parquet`: keywords, names and sizes; labels are given by `toremi annotate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toremi_cli.errors import TableError
from toremi_cli.files import atomic_file, read_json
from toremi_cli.layout import Workdir
from toremi_cli.provenance import Provenance, provenance_of
from toremi_cli.schemas import CLUSTERS, NO_TOPIC, SAMPLES, TOPICS
from toremi_cli.tables import COMPRESSION, TableReader
from toremi_cli.topics.joining import BATCH_ROWS, rebatched
from toremi_cli.topics.keywords import new_topic_name
from toremi_cli.topics.topic_entropy import topic_entropies

WORDS = "words.json"
"""Keywords, coarser levels and crowding, beside the model."""


def topics_are_current(path: Path, clusters: str) -> bool:
    """Whether the table of topics describes the clusters of that fingerprint (labelled since or not)."""
    try:
        record = TableReader(path, TOPICS).record
    except TableError:
        return False
    return record is not None and record["inputs"].get("clusters") == clusters


def write_topics(workdir: Workdir, clusters: Provenance) -> None:
    """Count the topics' samples, tokens and sources, and write the table."""
    described = read_json(workdir.clusters / "_model" / WORDS)
    keywords: list[list[str]] = described["keywords"]
    levels: list[dict[str, Any]] = described["levels"]
    crowding: list[float] = described["crowding"]
    kinds: list[str] = described["kinds"]
    sizes = _count(workdir, len(keywords))
    entropies = topic_entropies(workdir, len(keywords))
    taken: set[str] = set()
    rows: list[dict[str, Any]] = []
    for topic, words in enumerate(keywords):
        kind = kinds[topic] if kinds else ""
        name = new_topic_name(words, taken, kind)
        taken.add(name)
        rows.append({"topic": topic, "name": name, "words": words, "labels": [], "label_source": "none"})
        rows[-1] |= {"kind": kind} if kinds else {}
        rows[-1] |= {"label_scores": [], "crowding": crowding[topic], **sizes[topic]}
        if entropies is not None:
            rows[-1] |= {"ngram_entropy": _number(entropies.ngram[topic])}
            rows[-1] |= {"unigram_entropy": _number(entropies.unigram[topic])}
        parents = [level["parent"][topic] for level in levels]
        names = [level["names"][parent] for level, parent in zip(levels, parents, strict=True)]
        rows[-1] |= {"parents": parents, "parent_names": names}
    plan = provenance_of(TOPICS, clusters.command, dict(clusters.config), {"clusters": clusters.fingerprint})
    measured = ("ngram_entropy", "unigram_entropy") if entropies is not None else ()
    table = TOPICS.with_optional(
        *(("kind",) if kinds else ()), "crowding", *measured, *(("parents", "parent_names") if levels else ())
    )
    schema = table.arrow_schema().with_metadata(plan.metadata())
    with atomic_file(workdir.topics) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression=COMPRESSION)


def _number(value: float) -> float | None:
    """As it stands in a table: null where it is not known."""
    return None if np.isnan(value) else float(value)


def _count(workdir: Workdir, num_topics: int) -> list[dict[str, Any]]:
    samples, clusters = TableReader(workdir.samples, SAMPLES), TableReader(workdir.clusters, CLUSTERS)
    num_samples, num_tokens = np.zeros(num_topics, np.int64), np.zeros(num_topics, np.int64)
    agreement = np.zeros(num_topics)
    sources: list[Counter[str]] = [Counter() for _ in range(num_topics)]
    for batch, other in _joined(samples, clusters):
        topic = other["topic"].to_numpy()
        settled = topic != NO_TOPIC
        topic = topic[settled]
        num_samples += np.bincount(topic, minlength=num_topics)
        tokens = batch["num_tokens"].to_numpy()[settled]
        num_tokens += np.bincount(topic, weights=tokens, minlength=num_topics).astype(np.int64)
        agreement += np.bincount(topic, weights=other["agreement"].to_numpy()[settled], minlength=num_topics)
        names = np.array(batch["source"].to_pylist(), dtype=object)[settled]
        for k, source in zip(topic.tolist(), names.tolist(), strict=True):
            sources[k][source] += 1
    return [
        {
            "num_samples": int(num_samples[k]),
            "num_tokens": int(num_tokens[k]),
            "agreement": float(agreement[k] / max(num_samples[k], 1)),
            "sources": [
                {"source": source, "num_samples": count}
                for source, count in sorted(sources[k].items(), key=lambda item: (-item[1], item[0]))
            ],
        }
        for k in range(num_topics)
    ]


def _joined(samples: TableReader, clusters: TableReader) -> Iterator[tuple[pa.Table, pa.Table]]:
    for shard in range(len(samples.shards)):
        yield from zip(
            rebatched(samples, ["source", "num_tokens"], shard, BATCH_ROWS),
            rebatched(clusters, ["topic", "agreement"], shard, BATCH_ROWS),
            strict=True,
        )
