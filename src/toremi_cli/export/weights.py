"""What a run has learnt as a table of weights: for another run, under `--policy frozen`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from toremi_cli.errors import UsageError
from toremi_cli.export.shares import learnt_weights
from toremi_cli.provenance import provenance_of
from toremi_cli.runs.history import History
from toremi_cli.schemas import WEIGHTS
from toremi_cli.tables import TableReader, write_table


def write_weights(history: History, which: str, out: Path) -> dict[str, Any]:
    """Write one row a topic, in force from step 0 on.

    Args:
        history: of the run.
        which: its 'final' weights, or their 'mean' over its tokens: DoReMi's result (arXiv 2305.10429, algorithm 1).
        out: Parquet file.

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
    rows = [
        {"step": 0, "tokens_seen": 0, "stage": 1, "topic": topic, "weight": weight, "loss": None, "num_samples": 0}
        for topic, weight in weights.items()
    ]
    settings = {"run": history.name, "weights": which}
    inputs = {WEIGHTS.name: TableReader(table, WEIGHTS).fingerprint}
    provenance = provenance_of(WEIGHTS, "toremi export", settings, inputs)
    write_table(out, WEIGHTS, pa.Table.from_pylist(rows, schema=WEIGHTS.arrow_schema()), provenance)
    return {"output": str(out), **settings, "topics": weights}
