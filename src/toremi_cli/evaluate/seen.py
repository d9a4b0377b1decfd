"""May a run have trained on the held-out samples that it is measured on?"""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from toremi_cli.errors import ToremiError
from toremi_cli.evaluate.data import EvalSet
from toremi_cli.layout import Workdir
from toremi_cli.lm.fingerprint import corpus_fingerprint
from toremi_cli.runs.run import Run
from toremi_cli.schemas import ANNOTATED, TRAIN
from toremi_cli.tables import TableReader


def why_maybe_seen(run: Run, texts: EvalSet, workdir: Workdir) -> str | None:
    """Why a run may have trained on samples of the workdir's annotated table; None where it has not.

    A copy of that table with other texts but the same split, as `toremi corrupt` makes one, holds out the same samples.
    Of a bare model, and of a run whose record doesn't identify its data, nothing can be told: None.
    """
    record = run.record
    if not record.get("data"):
        return None
    own = _own_workdir(run, workdir)
    table, tokenizer = run.annotated(own), Path(run.config.get("tokenizer") or own.tokenizer)
    for path in (table, tokenizer):
        if not path.exists():
            return f"{path}, which it was trained with, is not there any more"
    try:
        if corpus_fingerprint(own.root, table, tokenizer) != record["data"]:
            return f"{table}, its topics or its tokenizer changed after the training"
        if table.resolve() == workdir.annotated.resolve():
            return None
        missing = set(texts.ids) - _held_out_ids(table)
    except ToremiError as problem:
        return str(problem)
    if not missing:
        return None
    return f"{len(missing):,} of the {len(texts.ids):,} samples are not held out in {table}, which it was trained on"


def _own_workdir(run: Run, workdir: Workdir) -> Workdir:
    """The workdir that a run's folder lies in; the given one where it lies in none."""
    runs = run.folder.resolve().parent
    return Workdir(runs.parent) if runs.name == "runs" else workdir


def _held_out_ids(table: Path) -> set[str]:
    ids: set[str] = set()
    for batch in TableReader(table, ANNOTATED).iter_batches(["sample_id", "split"]):
        ids.update(batch.filter(pc.not_equal(batch.column("split"), TRAIN)).column("sample_id").to_pylist())
    return ids
