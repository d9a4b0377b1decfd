"""A corpus resampled by weights and shuffled, streamed: memory does not grow with it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from toremi_cli import console
from toremi_cli.corpus.hashing import keyed_hash
from toremi_cli.corpus.shards import JsonlShards
from toremi_cli.errors import UsageError
from toremi_cli.export.formats import file_names
from toremi_cli.export.shares import Mixture, SampleWeigher, part_of, training_rows
from toremi_cli.export.shuffle import KEY_DIGITS, in_key_order
from toremi_cli.files import output_folder, write_json
from toremi_cli.tables import ShardWriter, shard_name

FORMATS = ("parquet", "jsonl.zst")
RECORD = "_export.json"
ROWS_PER_GROUP = 1024
"""Rows that a reader has to hold at once."""
ROWS_PER_SHARD = 49 * ROWS_PER_GROUP
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
    mixture: Mixture, weigher: SampleWeigher, out: Path, tokens: float, file_format: str, seed: int, by: str = ""
) -> dict[str, Any]:
    """Write about `tokens` training tokens, every sample as often as its weight says, in random order.

    Args:
        mixture, weigher: by `mixture_of`.
        out: a folder that is new, empty, or an earlier export.
        tokens: target in tokens; 0: as many as the corpus has.
        file_format: 'parquet' or 'jsonl.zst'.
        seed: decides which copies are drawn, and their order.
        by: 'topic' or 'source' for a folder each, as `render` names them; a sample of several topics goes to one of
            them by a hash of its id. Empty: all in one.

    Returns:
        numbers of samples, copies and tokens written.

    Raises:
        UsageError: unknown format, or the folder holds something else.
    """
    if file_format not in FORMATS:
        raise UsageError(f"--format {file_format}: expected {' or '.join(FORMATS)}")
    if out.exists() and any(out.iterdir()) and not (out / RECORD).exists():
        raise UsageError(f"{out}: is not empty and no export of toremi; name another folder with --output")
    names = file_names(mixture.parts(by)) if by else {"": ""}
    target = tokens or mixture.tokens
    facts = {"samples": 0, "copies": 0, "tokens": 0}
    with output_folder(out) as folder:
        scratch = folder / "_shuffling"
        with ExitStack() as stack, console.progress("resampling", total=2 * target, unit="tokens") as bar:
            writers: dict[str, _ParquetShards | JsonlShards] = {}
            for line in in_key_order(_copies(mixture, weigher, target, seed, facts, bar, by), scratch):
                row = json.loads(line[KEY_DIGITS:])
                bar.advance(row.pop("num_tokens"))
                part = row.pop("part")
                if part not in writers:
                    writers[part] = _opened(folder / names[part], file_format, stack)
                writers[part].write(row)
        record = {**mixture.origin, "seed": seed, "format": file_format, **({"by": by} if by else {}), **facts}
        write_json(folder / RECORD, record)
    return {"output": str(out), **record}


def _opened(folder: Path, file_format: str, stack: ExitStack) -> _ParquetShards | JsonlShards:
    """Shards in a folder, closed with the stack."""
    if file_format == "parquet":
        return stack.enter_context(_ParquetShards(folder))
    return stack.enter_context(JsonlShards(folder))


def _copies(
    mixture: Mixture,
    weigher: SampleWeigher,
    target: float,
    seed: int,
    facts: dict[str, int],
    bar: console.ProgressReporter,
    by: str,
) -> Iterator[bytes]:
    """A line for each copy: its key, then its row as JSON; counts them in `facts`."""
    rate = target / mixture.weighted
    for row in training_rows(mixture.annotated, [*weigher.columns, "sample_id", "text", "labels"]):
        weight = weigher.weigh(row)
        number = copies_of(row["sample_id"], weight * rate, seed)
        shown = {key: row[key] for key in ("source", "text", "labels")}
        shown["part"] = part_of(row, weigher.topics.of(row), by) if by else ""
        for copy in range(number):
            name = row["sample_id"] if copy == 0 else f"{row['sample_id']}~{copy}"
            key = keyed_hash("export order", seed, name)
            line = json.dumps({"id": name, **shown, "weight": weight, "num_tokens": row["num_tokens"]})
            yield f"{key:0{KEY_DIGITS}x}{line}\n".encode()
        facts["samples"] += number > 0
        facts["copies"] += number
        facts["tokens"] += number * row["num_tokens"]
        bar.advance(number * row["num_tokens"])


class _ParquetShards:
    """Rows to `part-00000.parquet`, …, in row groups of `ROWS_PER_GROUP`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._rows, self._num_shards = folder, list[dict[str, Any]](), 0
        self._writer: ShardWriter | None = None

    def __enter__(self) -> _ParquetShards:
        return self

    def write(self, row: dict[str, Any]) -> None:
        """Append a row."""
        self._rows.append(row)
        if len(self._rows) == ROWS_PER_GROUP:
            self._flush()

    def __exit__(self, *problem: object) -> None:
        if self._rows:
            self._flush()
        self._close()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = ShardWriter(str(self._folder / shard_name(self._num_shards)), SCHEMA)
            self._num_shards += 1
        self._writer.write(self._rows)
        self._rows = []
        if self._writer.num_rows >= ROWS_PER_SHARD:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
