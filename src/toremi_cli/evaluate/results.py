"""`eval.parquet` and `scores.parquet` of a run: what was measured of it, new numbers in place of old ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.evaluate.data import EvalSet
from toremi_cli.evaluate.intervals import intervals
from toremi_cli.evaluate.scores import DomainScore, TextScores, eval_rows
from toremi_cli.locks import lock_beside, locked
from toremi_cli.provenance import Provenance, provenance_of
from toremi_cli.runs.checkpoints import Checkpoint
from toremi_cli.runs.run import Run
from toremi_cli.schemas import CONDITIONS, EVAL, SCORES, Table
from toremi_cli.tables import TableReader, write_table

EVAL_FILE = "eval.parquet"
SCORES_FILE = "scores.parquet"
KEEPING_SECONDS = 60.0
"""How long to wait while another evaluation of the same run keeps its numbers."""


def keep_scores(
    run: Run,
    checkpoint: Checkpoint,
    texts: EvalSet,
    scores: TextScores,
    domains: Sequence[DomainScore],
    conditions: str,
) -> None:
    """Keep a checkpoint's numbers on a suite, by domain and by document, in place of those under the same conditions.

    Raises:
        TableError: a file is damaged or another table.
    """
    documents = by_document(texts, scores)
    errors = {domain: found.stderr for domain, found in intervals(documents).items() if found.is_known}
    rows = eval_rows(run.name, checkpoint.name, texts.suite, domains, errors)
    inputs = {"data": texts.fingerprint, "checkpoint": checkpoint.name}
    here = (checkpoint.name, texts.suite, conditions)
    keep_rows(run, EVAL_FILE, EVAL, here, rows, inputs)
    keep_rows(run, SCORES_FILE, SCORES, here, score_rows(checkpoint.name, texts.suite, documents), inputs)


def conditions_of(**settings: float | str | None) -> str:
    """What a number is measured under, in words: 'context length 32, stride 16'; what isn't set is left out."""
    shown = {name: value if isinstance(value, str) else f"{value:g}" for name, value in settings.items() if value}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


def keep_rows(
    run: Run,
    file: str,
    table: Table,
    here: tuple[str, str, str],
    rows: Sequence[dict[str, Any]],
    inputs: dict[str, str],
    domains: Sequence[str] | None = None,
) -> None:
    """Put rows in place of those of the same checkpoint, suite and conditions; all others stay.

    Rows whose conditions are unknown, which older versions wrote, make room too. A bare model folder is not written
    to: it isn't ours.

    Args:
        run: whose rows they are.
        file: name of the file in its folder.
        table: what the file holds.
        here: checkpoint, suite and conditions.
        rows: without their conditions.
        inputs: fingerprints, for the provenance.
        domains: if given, only rows of these are replaced (column `domain`, or `source`).
    """
    if run.is_bare_model:
        return
    path = run.folder / file
    with locked(lock_beside(path), path, "run the same command again", KEEPING_SECONDS):
        provenance = provenance_of(table, f"toremi eval {run.name}", {"suite": here[1]}, inputs)
        _replace_rows(path, table, here, rows, domains, provenance)


def _replace_rows(
    path: Path,
    table: Table,
    here: tuple[str, str, str],
    rows: Sequence[dict[str, Any]],
    domains: Sequence[str] | None,
    provenance: Provenance,
) -> None:
    checkpoint, suite, conditions = here
    full = table.with_optional(CONDITIONS)
    found = pa.Table.from_pylist([{**row, CONDITIONS: conditions} for row in rows], schema=full.arrow_schema())
    if path.exists():
        old = _read(path, table)
        same = pc.and_(pc.equal(old["checkpoint"], checkpoint), pc.equal(old["suite"], suite))
        same = pc.and_(same, pc.is_in(old[CONDITIONS], pa.array([conditions, ""])))
        if domains is not None:
            name = "domain" if "domain" in table.column_names else "source"
            same = pc.and_(same, pc.is_in(old[name], pa.array(list(domains), pa.string())))
        found = pa.concat_tables([old.filter(pc.invert(same)), found])
    write_table(path, full, found, provenance)


def _read(path: Path, table: Table) -> pa.Table:
    """The file's rows; where it has no column of conditions, as older versions wrote it, these are empty."""
    reader = TableReader(path, table)
    full = table.with_optional(CONDITIONS)
    if CONDITIONS in reader.schema.names:
        return reader.read(full.column_names).cast(full.arrow_schema())
    found = reader.read(table.column_names)
    return found.append_column(CONDITIONS, pa.array([""] * len(found), pa.string())).cast(full.arrow_schema())


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


def score_rows(checkpoint: str, suite: str, scores: DocumentScores) -> list[dict[str, Any]]:
    """Scores as rows of table `scores`."""
    columns = (scores.sources, scores.ids, scores.nats, scores.num_tokens, scores.num_bytes)
    names = ("source", "doc_id", "nats", "num_tokens", "num_bytes")
    here = {"checkpoint": checkpoint, "suite": suite}
    return [
        {**here, **dict(zip(names, values, strict=True))}
        for values in zip(*(column.tolist() for column in columns), strict=True)
    ]


def read_rows(run: Run) -> list[dict[str, Any]]:
    """All rows of a run's `eval`; none where it was never evaluated."""
    path = run.folder / EVAL_FILE
    return _read(path, EVAL).to_pylist() if path.exists() else []


def read_scores(run: Run) -> dict[tuple[str, str, str], DocumentScores]:
    """A run's scores by document, for each suite, checkpoint and conditions; the newest last."""
    path: Path = run.folder / SCORES_FILE
    if not path.exists():
        return {}
    table = _read(path, SCORES)
    found = {}
    names = ("suite", "checkpoint", CONDITIONS)
    for key in dict.fromkeys(zip(*(table[name].to_pylist() for name in names), strict=True)):
        same = reduce(pc.and_, (pc.equal(table[name], value) for name, value in zip(names, key, strict=True)))
        own = table.filter(same).sort_by([("source", "ascending"), ("doc_id", "ascending")])
        columns = [own[name].to_pylist() for name in ("source", "doc_id", "nats", "num_tokens", "num_bytes")]
        found[key] = DocumentScores(*(np.array(column) for column in columns))
    return found
