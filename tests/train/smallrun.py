"""A corpus small enough that a training run takes seconds, and how to start one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.bpe import make_tokenizer
from tests.realtext import news_articles
from toremi_cli.files import write_json
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import ANNOTATED, METRICS, TOPICS, WEIGHTS, Table
from toremi_cli.tables import MANIFEST, TableReader, shard_name, write_table

NUM_SAMPLES = 90
LABELS = [["Sports"], ["Politics", "Law"], ["Law"]]
MODEL = {
    "model_type": "gpt2",
    "n_embd": 16,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 64,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
ARGUMENTS = [
    "--paper",
    *("--context-length", "32", "--batch-size", "12", "--max-steps", "24", "--interval", "4", "--log-every", "3"),
    *("--eval-every", "6", "--checkpoint-every", "5", "--eval-samples", "3", "--learning-rate", "0.01"),
]


def write_workdir(root: Path) -> Path:
    """A workdir with a tokenizer, topics and an annotated table of two sources and three topics."""
    texts = [" ".join(text.split()[: 4 + 3 * (i % 9)]) for i, text in enumerate(news_articles()[:NUM_SAMPLES])]
    make_tokenizer(root / "tokenizer", 320, texts)
    annotated = [_row(i, text) for i, text in enumerate(texts)]
    provenance = provenance_of(ANNOTATED, "toremi annotate", {}, {})
    for shard in range(2):
        rows = annotated[shard * 50 : (shard + 1) * 50]
        write_table(root / "annotated" / shard_name(shard), ANNOTATED, rows, provenance)
    write_json(root / "annotated" / MANIFEST, {"fingerprint": provenance.fingerprint, "num_shards": 2})
    topics = [_topic(i) for i in range(3)]
    write_table(root / "topics.parquet", TOPICS, topics, provenance_of(TOPICS, "toremi annotate", {}, {}))
    (root / "model.json").write_text(json.dumps(MODEL))
    (root / "untied.json").write_text(json.dumps({**MODEL, "tie_word_embeddings": False}))
    (root / "dropout.json").write_text(json.dumps({**MODEL, "resid_pdrop": 0.1}))
    return root


def write_table_of(path: Path, texts: list[str]) -> Path:
    """An annotated table of some training texts."""
    rows = [{**_row(0, text), "sample_id": f"{i}#0", "split": "train"} for i, text in enumerate(texts)]
    write_table(path, ANNOTATED, rows, provenance_of(ANNOTATED, "toremi annotate", {"texts": texts}, {}))
    return path


def _row(index: int, text: str) -> dict[str, Any]:
    topic = index % 4 - 1  # one sample in four has no topic
    return {
        "sample_id": f"doc-{index}#0",
        "doc_id": f"doc-{index}",
        "source": ("wire", "web")[index % 2],
        "split": "validation" if index % 10 in (3, 6) else "train",
        "text": text,
        "num_tokens": len(text.split()),
        "num_bytes": len(text.encode()),
        "topic": topic,
        "labels": LABELS[topic] if topic >= 0 else [],
        "probs": [0.7, 0.3, 0.0] if topic == 0 else [0.1, 0.2, 0.7],
        "agreement": 0.5,
    }


def _topic(index: int) -> dict[str, Any]:
    return {
        "topic": index,
        "name": ("ball", "vote", "court")[index],
        "words": ["w"],
        "labels": LABELS[index],
        "label_source": "name",
        "label_scores": [1.0] * len(LABELS[index]),
        "num_samples": 1,
        "num_tokens": 1,
        "agreement": 0.5,
        "sources": [],
    }


def table(run: Path, kind: Table) -> pa.Table:
    return TableReader(run / kind.name, kind).read()


def weights(run: Path) -> list[dict[str, Any]]:
    return table(run, WEIGHTS).to_pylist()


def assert_alike(one: Path, other: Path) -> None:
    """Two runs came to the same weights and metrics, but for rounding."""
    for a, b in zip(weights(one), weights(other), strict=True):
        for key, value in a.items():
            # What context gains is a difference of sums in float32, and may be all but nothing.
            least = 2e-5 if key == "word_gain" else 1e-12
            assert b[key] == (pytest.approx(value, rel=1e-3, abs=least) if isinstance(value, float) else value)
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert (a["step"], a["name"], a["domain"]) == (b["step"], b["name"], b["domain"])
        assert a["value"] == pytest.approx(b["value"], rel=2e-3, abs=1e-6)


def metrics(run: Path, name: str | None = None) -> list[dict[str, Any]]:
    """Rows of `metrics`, timings left out."""
    rows = table(run, METRICS).to_pylist()
    timings = ("tokens_per_second", "mfu", "peak_memory_gib")
    timed = [r["name"] in timings or r["name"].endswith("_seconds") for r in rows]
    return [r for r, is_timed in zip(rows, timed, strict=True) if not is_timed and name in (None, r["name"])]
