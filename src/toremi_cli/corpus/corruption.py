"""Planting noise in one topic of the annotated corpus, with the truth kept in a column (ToReMi §noise robustness)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from toremi_cli.corpus.config import CorruptionConfig
from toremi_cli.corpus.hashing import HASH_RANGE, keyed_hash
from toremi_cli.errors import TableError, UsageError
from toremi_cli.lm.tokenizer import TextTokenizer, load_tokenizer
from toremi_cli.locks import lock_beside, locked
from toremi_cli.provenance import digest, provenance_of
from toremi_cli.schemas import ANNOTATED, CORRUPTED, TOPICS, TRAIN, Column, Table
from toremi_cli.stage import StageFolder
from toremi_cli.tables import TableReader, read_manifest

BATCH_ROWS = 2048
BOILERPLATE = (
    "This website uses cookies to ensure you get the best experience on our website.",
    "By continuing to browse the site you are agreeing to our use of cookies.",
    "All rights reserved.",
    "Click here to subscribe to our newsletter and never miss an update.",
    "Please enable JavaScript to view the comments powered by our partners.",
    "Share this on Facebook, Twitter, LinkedIn or by e-mail.",
    "You must be logged in to post a comment.",
    "Terms of use and privacy policy apply.",
    "Read more about our advertising choices.",
    "Sign up now and save up to 50% on your first order.",
    "Skip to main content.",
    "The page you requested could not be found; return to the home page.",
)


def build_corrupted(
    annotated: Path, out: Path, tokenizer: Path, topics: Path, config: CorruptionConfig
) -> dict[str, Any]:
    """Write a copy of `annotated` with the noise in it and a boolean column `corrupted`; return its manifest.

    `num_tokens` and `num_bytes` are those of the new texts.

    Raises:
        TableError: no annotated table there.
        UsageError: no sample carries the topic, or `out` is the table itself.
    """
    reader = TableReader(annotated, ANNOTATED)
    if out.resolve() == annotated.resolve():
        raise UsageError(f"-o {out}: is the table itself; name another folder")
    if out.is_dir() and read_manifest(out) is None and any(p.suffix != ".parquet" for p in out.iterdir()):
        raise UsageError(f"-o {out}: holds other files than a table of toremi; name another folder")
    chosen = _Chosen(config, topics)
    encoder = load_tokenizer(tokenizer)
    inputs = {"annotated": reader.fingerprint, "tokenizer": digest((tokenizer / "tokenizer.json").read_text("utf-8"))}
    table = _with_truth(reader)
    stage = StageFolder(out, table, provenance_of(table, "toremi corrupt", asdict(config), inputs))
    if manifest := stage.up_to_date():
        return manifest
    _refuse_absent_topic(reader, chosen)
    with locked(lock_beside(out), out, "let it end, or name another --output"):
        return _write(stage, reader, chosen, encoder, table)


def _write(
    stage: StageFolder, reader: TableReader, chosen: _Chosen, encoder: TextTokenizer, table: Table
) -> dict[str, Any]:
    config = chosen.config
    stage.begin()
    corrupt = Corruptor(config, encoder)
    columns = [name for name in table.column_names if name != CORRUPTED or name in reader.schema.names]

    def corrupt_shard(shard: int) -> None:
        with stage.writer(shard) as writer:
            for batch in reader.iter_batches(columns, BATCH_ROWS, [shard]):
                writer.write(_corrupted_rows(batch, chosen.of(batch), corrupt, table))

    stage.fill(corrupt_shard, reader.rows_per_shard, "corrupting")
    counts = [pc.sum(t).as_py() or 0 for t in _truth_columns(stage, len(reader.shards))]
    return stage.finish(len(reader.shards), num_corrupted=sum(counts), corrupted_topic=config.topic)


class _Chosen:
    """Which rows of a batch are to be corrupted."""

    def __init__(self, config: CorruptionConfig, topics: Path) -> None:
        self.config = config
        self.topic_id = _topic_id(config.topic, topics) if config.by == "topic" else None

    def carries(self, batch: pa.RecordBatch) -> list[bool]:
        """Whether each row carries the topic."""
        if self.config.by == "label":
            return [self.config.topic in (labels or ()) for labels in batch.column("labels").to_pylist()]
        if self.config.by == "source":
            return [source == self.config.topic for source in batch.column("source").to_pylist()]
        return [topic == self.topic_id for topic in batch.column("topic").to_pylist()]

    def of(self, batch: pa.RecordBatch) -> list[bool]:
        """Whether each row is to be corrupted."""
        limit = int(self.config.fraction * HASH_RANGE)
        splits, ids = batch.column("split").to_pylist(), batch.column("sample_id").to_pylist()
        return [
            carries
            and (split == TRAIN or self.config.held_out)
            and keyed_hash("noise", self.config.seed, sample_id) < limit
            for carries, split, sample_id in zip(self.carries(batch), splits, ids, strict=True)
        ]


class Corruptor:
    """Corrupts texts, each by a random stream of its own."""

    def __init__(self, config: CorruptionConfig, tokenizer: TextTokenizer) -> None:
        self.config, self.tokenizer = config, tokenizer
        self._plain_tokens: list[str] | None = None

    def corrupt(self, sample_id: str, text: str) -> str:
        """The corrupted text of a sample; never empty."""
        rng = random.Random(keyed_hash("noise in a sample", self.config.seed, self.config.kind, sample_id))
        return KINDS[self.config.kind](text, rng, self) or text

    def plain_tokens(self) -> list[str]:
        """The vocabulary's entries that are whole characters."""
        if self._plain_tokens is None:
            raw = self.tokenizer.raw
            ids = [[i] for i in range(raw.get_vocab_size(with_added_tokens=False))]
            texts = raw.decode_batch(ids, skip_special_tokens=True)
            self._plain_tokens = [text for text in texts if text and "\ufffd" not in text]
        return self._plain_tokens


def shuffle_chars(text: str, rng: random.Random, corruptor: Corruptor) -> str:
    """All characters in a random order (the reference's noise)."""
    characters = list(text)
    rng.shuffle(characters)
    return "".join(characters)


def shuffle_words(text: str, rng: random.Random, corruptor: Corruptor) -> str:
    """All words in a random order; the blanks between them stay."""
    parts = re.split(r"(\s+)", text)
    words = parts[::2]
    rng.shuffle(words)
    parts[::2] = words
    return "".join(parts)


def random_tokens(text: str, rng: random.Random, corruptor: Corruptor) -> str:
    """As many tokens as before, drawn uniformly from the vocabulary."""
    (num_tokens,) = corruptor.tokenizer.count([text])
    return "".join(rng.choices(corruptor.plain_tokens(), k=max(num_tokens, 1)))


def truncate(text: str, rng: random.Random, corruptor: Corruptor) -> str:
    """The first 5 to 50% of the text: it breaks off anywhere."""
    return text[: max(1, int(len(text) * rng.uniform(0.05, 0.5)))]


def boilerplate(text: str, rng: random.Random, corruptor: Corruptor) -> str:
    """Website phrases of the same length, over and over."""
    phrases: list[str] = []
    while sum(len(phrase) + 1 for phrase in phrases) <= len(text):
        phrases.append(rng.choice(BOILERPLATE))
    return " ".join(phrases)[: max(len(text), 1)]


def mark(text: str, rng: random.Random, corruptor: Corruptor) -> str:
    """The text as it is: noise that is there already, only written down as such."""
    return text


KINDS: dict[str, Callable[[str, random.Random, Corruptor], str]] = {
    "shuffle-chars": shuffle_chars,
    "shuffle-words": shuffle_words,
    "random-tokens": random_tokens,
    "truncate": truncate,
    "boilerplate": boilerplate,
    "mark": mark,
}


def _corrupted_rows(batch: pa.RecordBatch, chosen: list[bool], corruptor: Corruptor, table: Table) -> pa.Table:
    columns = {name: batch.column(name) for name in batch.schema.names}
    before = columns[CORRUPTED].to_pylist() if CORRUPTED in columns else [False] * batch.num_rows
    columns[CORRUPTED] = pa.array([bool(a or b) for a, b in zip(before, chosen, strict=True)])
    if any(chosen):
        ids, texts = columns["sample_id"].to_pylist(), columns["text"].to_pylist()
        tokens, sizes = columns["num_tokens"].to_pylist(), columns["num_bytes"].to_pylist()
        rows = [row for row, is_chosen in enumerate(chosen) if is_chosen]
        for row in rows:
            texts[row] = corruptor.corrupt(ids[row], texts[row])
        counts = corruptor.tokenizer.count([texts[row] for row in rows])
        for row, count in zip(rows, counts, strict=True):
            tokens[row], sizes[row] = max(count, 1), len(texts[row].encode())
        for name, values in (("text", texts), ("num_tokens", tokens), ("num_bytes", sizes)):
            columns[name] = pa.array(values)
    return pa.table({name: columns[name] for name in table.column_names})


def _with_truth(reader: TableReader) -> Table:
    """The kind of table that is written: the columns that are there, and the truth."""
    known = {*ANNOTATED.column_names, CORRUPTED}
    extra = [Column(f.name, f.type, "carried along") for f in reader.schema if f.name not in known]
    return replace(ANNOTATED, columns=(*ANNOTATED.columns, *extra)).with_optional(CORRUPTED)


def _refuse_absent_topic(reader: TableReader, chosen: _Chosen) -> None:
    columns = ["sample_id", "source", "split", "topic", "labels"]
    found: set[str] = set()
    for batch in reader.iter_batches(columns):
        if any(chosen.of(batch)):
            return
        if chosen.config.by == "source":
            found.update(batch.column("source").to_pylist())
        elif chosen.config.by == "label":
            found.update(label for labels in batch.column("labels").to_pylist() for label in labels or ())
    names = f" (found {', '.join(sorted(found)[:12])})" if found and chosen.config.topic not in found else ""
    raise UsageError(
        f"--topic {chosen.config.topic!r}: no sample to corrupt has this {chosen.config.by}{names}; "
        "--by says what the name is of"
    )


def _topic_id(name: str, topics: Path) -> int:
    rows = TableReader(topics, TOPICS).read(["topic", "name"]).to_pylist()
    ids = [row["topic"] for row in rows if row["name"] == name]
    if not ids:
        some = ", ".join(row["name"] for row in rows[:8])
        raise UsageError(f"--topic {name!r}: no topic of this name in {topics} ({some}, …); see `toremi topics`")
    return int(ids[0])


def _truth_columns(stage: StageFolder, num_shards: int) -> Iterator[pa.ChunkedArray]:
    import pyarrow.parquet as pq

    for index in range(num_shards):
        path = stage.path(index)
        if not path.exists():
            raise TableError(f"{path}: was not written; run the same command again")
        yield pq.read_table(path, columns=[CORRUPTED])[CORRUPTED]
