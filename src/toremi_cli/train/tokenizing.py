"""The annotated corpus becomes tokens: shard by shard, in processes or on Ray, then one array after another.

Shards are worked on in any order and joined in that of the table, so the result is the same bytes for any number of
workers. Each shard's arrays are put into their place whole: what was killed redoes at most the shards it was in.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toremi_cli import console
from toremi_cli.engine import run_shards
from toremi_cli.files import atomic_folder, read_json, write_json
from toremi_cli.lm.tokenizer import TokenizerFolder, copy_tokenizer, open_tokenizer
from toremi_cli.sample_topics import FineTopics, topic_name
from toremi_cli.schemas import ANNOTATED, NO_TOPIC, TRAIN, VALIDATION
from toremi_cli.tables import TableReader, opened_once
from toremi_cli.train.npy import NpyAppender, read_npy

BATCH_ROWS = 1024
CHUNK = 1 << 22
"""Numbers that are copied at a time when shards are joined."""
COLUMNS = ("text", "source", "split", "topic", "labels", "num_bytes")
ARRAYS = {
    "offset": np.int64,
    "length": np.int32,
    "num_bytes": np.int64,
    "source": np.int32,
    "split": np.int8,
    "fine_topic": np.int32,
    "labels_count": np.int32,
    "labels_topic": np.int32,
}
SPLITS = {TRAIN: 0, VALIDATION: 1}
OTHER_SPLIT = 2


def write_tokens(
    folder: Path,
    reader: TableReader,
    tokenizer: TokenizerFolder,
    topics: FineTopics,
    fingerprint: str,
    *,
    workers: int,
    engine: str = "local",
) -> None:
    """Write the flat arrays of a table, its tokenizer beside them, and `meta.json` when they are whole.

    Args:
        folder: where they go; what is done of it so far lies beside it, as `FOLDER.parts/`.
        reader: the annotated table.
        tokenizer: what cuts its text.
        topics: names and crowding of the fine topics.
        fingerprint: of all of these.
        workers: processes; the result doesn't depend on it.
        engine: where they are, see `run_shards`.

    Raises:
        TableError: a shard is damaged.
    """
    parts = parts_of(folder)
    parts.mkdir(parents=True, exist_ok=True)
    missing = [k for k in range(len(reader.shards)) if not (part_of(parts, k) / "meta.json").is_file()]
    alone = workers == 1 or len(missing) < 2
    work = ShardWriter(reader.path, tokenizer.folder, parts, fingerprint, alone)
    with console.progress("tokenizing", sum(reader.rows_per_shard[k] for k in missing)) as progress:
        for shard in run_shards(work, missing, engine=engine, workers=workers):
            progress.advance(reader.rows_per_shard[shard])
    with atomic_folder(folder) as temporary:
        meta = _join([part_of(parts, k) for k in range(len(reader.shards))], temporary, topics)
        (temporary / "tokenizer").mkdir()
        copy_tokenizer(tokenizer.folder, temporary / "tokenizer")
        known = {"fingerprint": fingerprint, "annotated": str(reader.path), "absent": reader.absent}
        by = {"tokenizer": tokenizer.fingerprint, "eos_id": tokenizer.eos_id, "vocab_size": tokenizer.vocab_size}
        write_json(temporary / "meta.json", {**meta, **known, **by})
    shutil.rmtree(parts)


def parts_of(folder: Path) -> Path:
    """Where the shards of a cache lie until all are there."""
    return folder.with_name(f"{folder.name}.parts")


def part_of(parts: Path, shard: int) -> Path:
    """One of them."""
    return parts / f"part-{shard:05d}"


@dataclass(frozen=True)
class ShardWriter:
    """Writes the arrays of the shard of a number."""

    annotated: Path
    tokenizer: Path
    parts: Path
    fingerprint: str
    alone: bool
    """Whether no other process works on shards, so that the tokenizer may use all cores."""

    def __call__(self, shard: int) -> None:
        """Write one shard's arrays, whole."""
        if not self.alone:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the other cores have shards of their own
        with atomic_folder(part_of(self.parts, shard)) as temporary:
            writer = PartWriter(temporary, _tokenizer(self.tokenizer, self.fingerprint))
            reader = opened_once(self.annotated, ANNOTATED, self.fingerprint)
            for batch in reader.iter_batches(COLUMNS, BATCH_ROWS, shards=[shard]):
                writer.add(batch)
            write_json(temporary / "meta.json", writer.close())


@lru_cache(maxsize=1)
def _tokenizer(folder: Path, fingerprint: str) -> TokenizerFolder:
    return open_tokenizer(folder)


class PartWriter:
    """Appends batches of rows to the arrays of a shard; sources and labels are numbered as they come."""

    def __init__(self, folder: Path, tokenizer: TokenizerFolder) -> None:
        self.tokenizer, self.eos_id = tokenizer.load(), tokenizer.eos_id
        dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
        self.tokens = NpyAppender(folder / "tokens.npy", dtype)
        self.arrays = {name: NpyAppender(folder / f"{name}.npy", dtype) for name, dtype in ARRAYS.items()}
        self.sources: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.num_topics = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Append the rows of one batch."""
        self._add_tokens(batch.column("text").fill_null("").to_pylist())
        self._append("num_bytes", batch.column("num_bytes").to_numpy(zero_copy_only=False))
        self._append("source", numbered(batch.column("source").fill_null(""), self.sources))
        self._append("split", numbered(batch.column("split").fill_null(""), dict(SPLITS), OTHER_SPLIT))
        self._add_labels(batch.column("labels"))
        topic = batch.column("topic").fill_null(NO_TOPIC).to_numpy(zero_copy_only=False)
        self._append("fine_topic", topic)
        self.num_topics = max(self.num_topics, int(topic.max(initial=NO_TOPIC)) + 1)

    def _add_tokens(self, texts: list[str]) -> None:
        ids = self.tokenizer.ids(texts)
        length = np.fromiter(map(len, ids), np.int64, len(ids))
        self.add_tokens(np.fromiter(chain.from_iterable(ids), self.tokens.dtype, int(length.sum())), length)

    def add_tokens(self, tokens: np.ndarray, length: np.ndarray) -> None:
        """Append samples of (n,) lengths that lie end to end, each with an end-of-text token."""
        ends = np.cumsum(length + 1)
        flat = np.full(len(tokens) + len(length), self.eos_id, self.tokens.dtype)
        is_end = np.zeros(len(flat), bool)
        is_end[ends - 1] = True
        flat[~is_end] = tokens
        self._append("offset", self.tokens.length + ends - length - 1)
        self._append("length", length)
        self.tokens.append(flat)

    def _add_labels(self, column: pa.Array) -> None:
        size = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        row = np.repeat(np.arange(len(column)), size)
        label = numbered(column.flatten(), self.labels)
        _, first = np.unique(row << 32 | label, return_index=True)  # each label once a row, in its order
        first.sort()
        self._append("labels_count", np.bincount(row[first], minlength=len(column)))
        self._append("labels_topic", label[first])

    def _append(self, name: str, values: Any) -> None:
        self.arrays[name].append(values)

    def close(self) -> dict[str, Any]:
        """Finish the arrays; return what `meta.json` says of them."""
        for array in (self.tokens, *self.arrays.values()):
            array.close()
        return {"sources": list(self.sources), "labels": list(self.labels), "num_topics": self.num_topics}


def numbered(column: pa.Array, ids: dict[str, int], unknown: int | None = None) -> np.ndarray:
    """(n,) int64 number of each text in `ids`; a new one gets the next number, or `unknown`."""
    coded = column.dictionary_encode()
    texts = coded.dictionary.to_pylist()
    if unknown is None:
        number = [ids.setdefault(text, len(ids)) for text in texts]
    else:
        number = [ids.get(text, unknown) for text in texts]
    return np.array(number, np.int64)[coded.indices.to_numpy(zero_copy_only=False)]


def _join(parts: list[Path], folder: Path, topics: FineTopics) -> dict[str, Any]:
    """Write the shards' arrays one after another; return what `meta.json` says of them."""
    dtype = np.load(parts[0] / "tokens.npy", mmap_mode="r").dtype
    tokens = NpyAppender(folder / "tokens.npy", dtype)
    arrays = {name: NpyAppender(folder / f"{name}.npy", dtype) for name, dtype in ARRAYS.items()}
    sources: dict[str, int] = {}
    labels: dict[str, int] = {}
    names = list(topics.names)
    for part in parts:
        meta = read_json(part / "meta.json")
        new = {
            "source": np.array([sources.setdefault(name, len(sources)) for name in meta["sources"]], np.int64),
            "labels_topic": np.array([labels.setdefault(name, len(labels)) for name in meta["labels"]], np.int64),
        }
        for name, target in arrays.items():
            values = read_npy(part / f"{name}.npy")
            shift = tokens.length if name == "offset" else 0
            for begin in range(0, len(values), CHUNK):
                piece = values[begin : begin + CHUNK]
                target.append(new[name][piece] if name in new else piece + shift if shift else piece)
        values = read_npy(part / "tokens.npy")
        for begin in range(0, len(values), CHUNK):
            tokens.append(values[begin : begin + CHUNK])
        names += [topic_name(names, topic) for topic in range(len(names), meta["num_topics"])]
    for array in (tokens, *arrays.values()):
        array.close()
    return {
        "num_samples": arrays["length"].length,
        "num_tokens": tokens.length,
        "sources": list(sources),
        "labels": list(labels),
        "fine_names": names,
        "crowding": topics.crowding if topics.crowding and len(topics.crowding) == len(names) else None,
    }
