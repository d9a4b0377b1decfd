"""What a run has learnt as a table of weights: for another run, under `--policy frozen`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from toremi_cli.errors import UsageError
from toremi_cli.export.shares import learnt_weights
from toremi_cli.layout import Workdir
from toremi_cli.portraits import paint
from toremi_cli.provenance import provenance_of
from toremi_cli.runs.history import History
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import ANNOTATED, EXPORTED_WEIGHTS, WEIGHTS
from toremi_cli.tables import TableReader, write_table


def write_weights(history: History, which: str, out: Path, workdir: Workdir) -> dict[str, Any]:
    """Write one row a topic, in force from step 0 on, with the words and the centre of the topic.

    Args:
        history: of the run.
        which: its 'final' weights, or their 'mean' over its tokens: DoReMi's result (arXiv 2305.10429, algorithm 1).
        out: Parquet file.
        workdir: holds the corpus that the run was trained on.

    Returns:
        the file, what was written and the weight of each topic.

    Raises:
        UsageError: `out` is a folder or lies in the run's own table.
        TableError: the run has no weights yet, or its corpus is gone.
    """
    weights = learnt_weights(history, which)
    table = history.run.folder / WEIGHTS.name
    if out.is_dir() or out.resolve().parent == table.resolve():
        raise UsageError(f"--output {out}: would mix with what is there; expected the name of a Parquet file to write")
    annotated, mode = history.run.annotated(workdir), history.run.topic_mode
    seen = paint(annotated, SampleTopics(mode, workdir.topics), workdir)
    place = {topic: i for i, topic in enumerate(seen.topics)}
    rows: list[dict[str, Any]] = []
    for topic, weight in weights.items():
        rows.append({"step": 0, "tokens_seen": 0, "stage": 1, "topic": topic, "weight": weight, "num_samples": 0})
        words = seen.words[place[topic]] if topic in place else {}
        rows[-1] |= {"words": list(words), "word_shares": list(words.values())}
        if seen.centres is not None and topic in place and seen.centres[place[topic]].any():
            rows[-1]["centre"] = seen.centres[place[topic]].tolist()
    settings = {"run": history.name, "weights": which}
    inputs = {WEIGHTS.name: TableReader(table, WEIGHTS).fingerprint}
    inputs |= {ANNOTATED.name: TableReader(annotated, ANNOTATED).fingerprint, "vectors": seen.space}
    provenance = provenance_of(EXPORTED_WEIGHTS, "toremi export", {**settings, "topics": mode}, inputs)
    made = pa.Table.from_pylist(rows, schema=EXPORTED_WEIGHTS.arrow_schema())
    write_table(out, EXPORTED_WEIGHTS, made, provenance)
    return {"output": str(out), **settings, "topics": weights}
