"""What a run has learnt as a table of weights: for another run, under `--policy frozen`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from toremi_cli import console
from toremi_cli.errors import UsageError
from toremi_cli.export.shares import learnt_weights
from toremi_cli.layout import Workdir
from toremi_cli.portraits import Portraits, paint
from toremi_cli.provenance import provenance_of
from toremi_cli.runs.history import History
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import ANNOTATED, EXPORTED_WEIGHTS, WEIGHTS
from toremi_cli.tables import TableReader, write_table


def write_weights(history: History, which: str, out: Path, workdir: Workdir) -> dict[str, Any]:
    """Write one row a topic, in force from step 0 on; with its words and centre, where its corpus is there.

    Args:
        history: of the run.
        which: its 'final' weights, or their 'mean' over its tokens: DoReMi's result (arXiv 2305.10429, algorithm 1).
        out: Parquet file.
        workdir: holds the corpus that the run was trained on, if it wasn't tokens made elsewhere.

    Returns:
        the file, what was written and the weight of each topic.

    Raises:
        UsageError: `out` is a folder or lies in the run's own table.
        TableError: the run has no weights yet.
    """
    weights = learnt_weights(history, which)
    table = history.run.folder / WEIGHTS.name
    if out.is_dir() or out.resolve().parent == table.resolve():
        raise UsageError(f"--output {out}: would mix with what is there; expected the name of a Parquet file to write")
    rows: dict[str, dict[str, Any]] = {
        topic: {"step": 0, "tokens_seen": 0, "stage": 1, "topic": topic, "weight": weight, "num_samples": 0}
        for topic, weight in weights.items()
    }
    settings: dict[str, Any] = {"run": history.name, "weights": which}
    inputs = {WEIGHTS.name: TableReader(table, WEIGHTS).fingerprint}
    annotated, mode, made = history.run.annotated(workdir), history.run.topic_mode, WEIGHTS
    if annotated.exists() and not history.run.config.get("tokens"):
        made = EXPORTED_WEIGHTS
        seen = paint(annotated, SampleTopics(mode, workdir.topics, annotated), workdir)
        inputs |= {ANNOTATED.name: TableReader(annotated, ANNOTATED).fingerprint, "vectors": seen.space}
        _add_portraits(rows, seen)
    else:
        why = "trained on --tokens" if history.run.config.get("tokens") else f"{annotated}: no annotated corpus there"
        console.note(f"{why}; the weights are told by the topics' names alone")
    provenance = provenance_of(made, "toremi export", {**settings, "topics": mode}, inputs)
    write_table(out, made, pa.Table.from_pylist(list(rows.values()), schema=made.arrow_schema()), provenance)
    return {"output": str(out), **settings, "topics": weights}


def _add_portraits(rows: dict[str, dict[str, Any]], seen: Portraits) -> None:
    """Add words and centre of each topic that was seen to its row."""
    place = {topic: i for i, topic in enumerate(seen.topics)}
    for topic, row in rows.items():
        words = seen.words[place[topic]] if topic in place else {}
        row |= {"words": list(words), "word_shares": list(words.values())}
        if seen.centres is not None and topic in place and seen.centres[place[topic]].any():
            row["centre"] = seen.centres[place[topic]].tolist()
