"""Small tables written by hand, as embed and cluster would leave them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toremi_cli.layout import Workdir
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import CLUSTERS, EMBEDDINGS, SAMPLES, TOPICS
from toremi_cli.stage import StageFolder
from toremi_cli.tables import read_manifest, write_table

WORDS = [
    ["match", "coach", "goal", "goals", "league", "striker", "season"],
    ["court", "plaintiff", "appeal", "statute", "judge", "pursuant"],
    ["blorb", "zzyx", "qwxt", "frobnitz"],
]
"""Two topics that have plain labels, and one that has none."""
TOPIC_OF_SAMPLE = [0, 1, 2, -1, 0, 1, 0, 0, 1, 2]
"""Ten samples, one of them without a topic."""


def write_samples(workdir: Workdir, topics: Sequence[int], per_shard: int = 4, note: str = "") -> None:
    """One sample for each entry of `topics`, of two sources in turn."""
    stage = StageFolder(workdir.samples, SAMPLES, provenance_of(SAMPLES, "toremi embed", {"note": note}, {}))
    stage.begin()
    rows = [_sample(number, topic) for number, topic in enumerate(topics)]
    shards = [rows[start : start + per_shard] for start in range(0, len(rows), per_shard)]
    for index, shard in enumerate(shards):
        with stage.writer(index) as writer:
            writer.write(shard)
    stage.finish(len(shards))


def _sample(number: int, topic: int) -> dict[str, object]:
    text = " ".join(WORDS[topic]) + f" number {number}"
    return {
        "sample_id": f"d{number}#0",
        "doc_id": f"d{number}",
        "source": ("web", "books")[number % 2],
        "split": "train" if number else "test",
        "text": text,
        "num_tokens": len(text.split()),
        "num_bytes": len(text),
    }


def write_clusters(workdir: Workdir, topics: Sequence[int], per_shard: int = 4, seed: int = 0) -> None:
    """The clusters of `write_samples`' samples, and a table of topics without labels."""
    samples = read_manifest(workdir.samples)
    assert samples is not None
    plan = provenance_of(CLUSTERS, "toremi cluster", {"seed": seed}, {"samples": samples["fingerprint"]})
    stage = StageFolder(workdir.clusters, CLUSTERS, plan)
    stage.begin()
    rows = [_assignment(number, topic) for number, topic in enumerate(topics)]
    shards = [rows[start : start + per_shard] for start in range(0, len(rows), per_shard)]
    for index, shard in enumerate(shards):
        with stage.writer(index) as writer:
            writer.write(shard)
    manifest = stage.finish(len(shards))
    write_topics(workdir.topics, topics, manifest["fingerprint"])


def _assignment(number: int, topic: int) -> dict[str, object]:
    probs = [0.1, 0.1, 0.1]
    probs[topic] = 0.8
    return {"sample_id": f"d{number}#0", "topic": topic, "probs": probs, "agreement": 0.9}


def write_topics(path: Path, topics: Sequence[int], fingerprint: str) -> None:
    """The first table of topics, as cluster leaves it."""
    plan = provenance_of(TOPICS, "toremi cluster", {}, {"clusters": fingerprint})
    rows = []
    for topic, words in enumerate(WORDS):
        members = [number for number, of in enumerate(topics) if of == topic]
        sources = Counter(("web", "books")[number % 2] for number in members)
        rows.append(
            {
                "topic": topic,
                "name": f"unnamed-{topic}",
                "words": words,
                "labels": [],
                "label_source": "none",
                "label_scores": [],
                "num_samples": len(members),
                "num_tokens": 10 * len(members),
                "agreement": 0.9,
                "sources": [{"source": s, "num_samples": n} for s, n in sources.most_common()],
            }
        )
    write_table(path, TOPICS, rows, plan)


def write_embeddings(workdir: Workdir, topics: Sequence[int], per_shard: int = 4) -> None:
    """A vector for each sample, near to those of the same topic."""
    samples = read_manifest(workdir.samples)
    assert samples is not None
    plan = provenance_of(EMBEDDINGS, "toremi embed", {}, {"samples": samples["fingerprint"]})
    stage = StageFolder(workdir.embeddings, EMBEDDINGS, plan)
    stage.begin()
    vectors = np.random.default_rng(0).normal(0, 0.1, (len(topics), 5)).astype(np.float32)
    vectors[np.arange(len(topics)), np.asarray(topics)] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [{"sample_id": f"d{number}#0", "vector": vector.tolist()} for number, vector in enumerate(vectors)]
    shards = [rows[start : start + per_shard] for start in range(0, len(rows), per_shard)]
    for index, shard in enumerate(shards):
        with stage.writer(index, dim=5) as writer:
            writer.write(shard)
    stage.finish(len(shards))
