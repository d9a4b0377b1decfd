"""A corpus resampled by what a run has learnt, streamed: memory does not grow with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toremi_cli import console
from toremi_cli.corpus.hashing import keyed_hash
from toremi_cli.corpus.shards import JsonlShards
from toremi_cli.errors import UsageError
from toremi_cli.export.shares import Mixture, SampleWeigher, training_rows
from toremi_cli.tables import atomic_folder, shard_name, write_json

FORMATS = ("parquet", "jsonl.zst")
RECORD = "_export.json"
ROWS_PER_SHARD = 50_000
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("text", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("weight", pa.float64()),
    ]
)


def copies_of(sample_id: str, expected: float, seed: int) -> int:
    """How often a sample is drawn: its expected number, rounded down or up at random by its own hash.

    The draw depends on the seed and the sample alone, so it is the same in any order and on any machine.
    """
    whole = math.floor(expected)
    uniform = keyed_hash("export", seed, sample_id) / 2**64
    return whole + (uniform < expected - whole)


def write_corpus(
    mixture: Mixture, weigher: SampleWeigher, out: Path, tokens: float, file_format: str, seed: int
) -> dict[str, Any]:
    """Write about `tokens` training tokens, every sample as often as its weight says.

    Args:
        mixture, weigher: by `build_mixture`.
        out: a folder that is new, empty, or an earlier export.
        tokens: target in tokens; 0: as many as the corpus has.
        file_format: 'parquet' or 'jsonl.zst'.
        seed: decides which copies are drawn.

    Returns:
        numbers of samples, copies and tokens written.

    Raises:
        UsageError: unknown format, or the folder holds something else.
    """
    if file_format not in FORMATS:
        raise UsageError(f"--format {file_format}: expected {' or '.join(FORMATS)}")
    if out.exists() and any(out.iterdir()) and not (out / RECORD).exists():
        raise UsageError(f"{out}: is not empty and no export of toremi; name another folder with --out")
    target = tokens or mixture.tokens
    rate = target / mixture.weighted
    facts = {"samples": 0, "copies": 0, "tokens": 0}
    columns = [*weigher.columns, "sample_id", "text", "labels"]
    with atomic_folder(out) as folder:
        writer = _ParquetShards(folder) if file_format == "parquet" else JsonlShards(folder)
        with writer, console.progress("resampling", total=target, unit="tokens") as bar:
            for row in training_rows(mixture.annotated, columns):
                weight = weigher.weigh(row)
                number = copies_of(row["sample_id"], weight * rate, seed)
                shown = {key: row[key] for key in ("source", "text", "labels")}
                for copy in range(number):
                    name = row["sample_id"] if copy == 0 else f"{row['sample_id']}~{copy}"
                    writer.write({"id": name, **shown, "weight": weight})
                facts["samples"] += number > 0
                facts["copies"] += number
                facts["tokens"] += number * row["num_tokens"]
                bar.advance(number * row["num_tokens"])
        record = {"run": mixture.run, "weights": mixture.which, "seed": seed, "format": file_format, **facts}
        write_json(folder / RECORD, record)
    return {"out": str(out), **record}


class _ParquetShards:
    """Rows to `part-00000.parquet`, …"""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._rows, self._shard = folder, list[dict[str, Any]](), 0

    def __enter__(self) -> _ParquetShards:
        return self

    def write(self, row: dict[str, Any]) -> None:
        """Append a row."""
        self._rows.append(row)
        if len(self._rows) >= ROWS_PER_SHARD:
            self._flush()

    def __exit__(self, *problem: object) -> None:
        if self._rows:
            self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_pylist(self._rows, schema=SCHEMA)
        pq.write_table(table, self._folder / shard_name(self._shard), compression="zstd")
        self._rows, self._shard = [], self._shard + 1
