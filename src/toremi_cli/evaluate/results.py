"""`eval.parquet` and `scores.parquet` of a run: what was measured of it, new numbers in place of old ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toremi_cli.evaluate.bootstrap import DocumentScores, intervals
from toremi_cli.evaluate.data import EvalSet
from toremi_cli.evaluate.scores import DomainScore, TextScores, eval_rows
from toremi_cli.provenance import provenance_of
from toremi_cli.runs.checkpoints import Checkpoint
from toremi_cli.runs.run import Run
from toremi_cli.schemas import EVAL, SCORES, Table
from toremi_cli.tables import TableReader, write_table

EVAL_FILE = "eval.parquet"
SCORES_FILE = "scores.parquet"


def keep_scores(
    run: Run, checkpoint: Checkpoint, texts: EvalSet, scores: TextScores, domains: Sequence[DomainScore]
) -> None:
    """Keep a checkpoint's numbers on a suite, by domain and by document, in place of earlier ones.

    Raises:
        TableError: a file is damaged or another table.
    """
    documents = by_document(texts, scores)
    errors = {domain: found.stderr for domain, found in intervals(documents).items() if found.is_known}
    rows = eval_rows(run.name, checkpoint.name, texts.suite, domains, errors)
    inputs = {"data": texts.fingerprint, "checkpoint": checkpoint.name}
    keep_rows(run, EVAL_FILE, EVAL, checkpoint.name, texts.suite, rows, inputs)
    keep_rows(run, SCORES_FILE, SCORES, checkpoint.name, texts.suite, _score_rows(checkpoint, texts, documents), inputs)


def keep_rows(
    run: Run,
    file: str,
    table: Table,
    checkpoint: str,
    suite: str,
    rows: Sequence[dict[str, Any]],
    inputs: dict[str, str],
    domains: Sequence[str] | None = None,
) -> None:
    """Put rows in place of those of the same checkpoint and suite (and `domains`, if given); all other rows stay.

    A bare model folder is not written to: it isn't ours.
    """
    if run.is_bare_model:
        return
    path = run.folder / file
    schema = table.arrow_schema()
    found = pa.Table.from_pylist(list(rows), schema=schema)
    if path.exists():
        old = TableReader(path, table).read(table.column_names)
        same = pc.and_(pc.equal(old["checkpoint"], checkpoint), pc.equal(old["suite"], suite))
        if domains is not None:
            same = pc.and_(same, pc.is_in(old["domain"], pa.array(list(domains))))
        found = pa.concat_tables([old.filter(pc.invert(same)).cast(schema), found])
    write_table(path, table, found, provenance_of(table, f"toremi eval {run.name}", {"suite": suite}, inputs))


def by_document(texts: EvalSet, scores: TextScores) -> DocumentScores:
    """Sum the scores of a document's samples."""
    keys = sorted(set(zip(texts.sources, texts.documents, strict=True)))
    index = {key: number for number, key in enumerate(keys)}
    owner = np.array([index[key] for key in zip(texts.sources, texts.documents, strict=True)], dtype=np.int64)
    sums = [np.bincount(owner, weights=v) for v in (scores.nats, scores.num_tokens, scores.num_bytes)]
    return DocumentScores(
        np.array([source for source, _ in keys]),
        np.array([document for _, document in keys]),
        sums[0],
        sums[1].astype(np.int64),
        sums[2].astype(np.int64),
    )


def _score_rows(checkpoint: Checkpoint, texts: EvalSet, scores: DocumentScores) -> list[dict[str, Any]]:
    columns = (scores.sources, scores.ids, scores.nats, scores.num_tokens, scores.num_bytes)
    names = ("source", "doc_id", "nats", "num_tokens", "num_bytes")
    here = {"checkpoint": checkpoint.name, "suite": texts.suite}
    return [
        {**here, **dict(zip(names, values, strict=True))}
        for values in zip(*(column.tolist() for column in columns), strict=True)
    ]


def read_rows(run: Run) -> list[dict[str, Any]]:
    """All rows of a run's `eval`; none where it was never evaluated."""
    path = run.folder / EVAL_FILE
    return TableReader(path, EVAL).read(EVAL.column_names).to_pylist() if path.exists() else []


def read_scores(run: Run) -> dict[tuple[str, str], DocumentScores]:
    """A run's scores by document, for each suite and checkpoint."""
    path: Path = run.folder / SCORES_FILE
    if not path.exists():
        return {}
    table = TableReader(path, SCORES).read(SCORES.column_names)
    found = {}
    keys = dict.fromkeys(zip(table["suite"].to_pylist(), table["checkpoint"].to_pylist(), strict=True))
    for suite, checkpoint in keys:
        same = pc.and_(pc.equal(table["suite"], suite), pc.equal(table["checkpoint"], checkpoint))
        own = table.filter(same).sort_by([("source", "ascending"), ("doc_id", "ascending")])
        columns = [own[name].to_pylist() for name in ("source", "doc_id", "nats", "num_tokens", "num_bytes")]
        found[suite, checkpoint] = DocumentScores(*(np.array(column) for column in columns))
    return found
