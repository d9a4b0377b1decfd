"""The first stage: a corpus becomes the table `samples` and a tokenizer.

Two passes over the files: one to look (see `scan`), one to cut and write. An interrupted run is continued at the first
document that no finished shard holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from toremi_cli import console
from toremi_cli.corpus.chunking import Chunk, Chunker
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.counts import Counts
from toremi_cli.corpus.hashing import HashSet, text_hashes
from toremi_cli.corpus.readers import Corpus, Document, ReadReport
from toremi_cli.corpus.scan import Scan, batches, plan_split, sample_id, scan_corpus
from toremi_cli.corpus.split import SplitPlan
from toremi_cli.corpus.tokenizer import (
    END_OF_TEXT,
    fetch_tokenizer,
    is_saved,
    load_tokenizer,
    save_tokenizer,
    tokenizer_fingerprint,
    train_tokenizer,
)
from toremi_cli.errors import CorpusError
from toremi_cli.layout import Workdir
from toremi_cli.provenance import digest, provenance_of
from toremi_cli.schemas import SAMPLES, TEST, TRAIN, VALIDATION
from toremi_cli.stage import StageFolder
from toremi_cli.tables import open_shard, read_manifest, write_json

PROGRESS = "_progress.json"
"""How far the finished shards reach into the corpus, and the plan they belong to."""
SHARD_BYTES = 64_000_000
ROW_GROUP_ROWS = 4096


def build_samples(corpus: str, workdir: Workdir, config: CorpusConfig) -> dict[str, Any]:
    """Write `samples` and the tokenizer, or see that both are up to date; return the manifest.

    Raises:
        CorpusError: nothing to read, broken input, a tokenizer that cannot be had.
    """
    source = Corpus(corpus, config)
    location = absolute_corpus(corpus)
    inputs = {"corpus": source.listing.fingerprint, "tokenizer": tokenizer_fingerprint(config.tokenizer)}
    stage = StageFolder(workdir.samples, SAMPLES, provenance_of(SAMPLES, "toremi embed", asdict(config), inputs))
    tokenizer_key = _tokenizer_key(config, inputs)
    if stage.is_finished() and is_saved(workdir.tokenizer, tokenizer_key):
        console.note(f"{workdir.samples}: up to date")
        stage.confirm()
        return read_manifest(workdir.samples) or {}
    _tell_passed_over(source)
    stage.begin()
    progress = _read_progress(stage)
    scan = scan_corpus(source, config)
    _tell_skipped(scan.report)
    _make_tokenizer(workdir.tokenizer, config, scan, tokenizer_key)
    chunker = Chunker(load_tokenizer(workdir.tokenizer), config.max_tokens)
    plan = plan_split(source, scan, config, chunker)
    writer = _SampleWriter(stage, config, location, progress)
    _write_samples(source, scan, chunker, plan, writer)
    _warn_of_holdout(plan, writer.counts, config)
    facts = {
        "corpus": location,
        "num_files": len(source.listing.files),
        "num_documents_read": scan.num_documents,
        "num_empty_texts": scan.report.num_empty,
        "num_skipped": scan.report.num_skipped,
        "totals": writer.counts.totals(),
        "sources": writer.counts.as_record(),
    }
    return stage.finish(writer.num_shards, **facts)


def previous_plan(folder: Path) -> dict[str, Any] | None:
    """The corpus and the settings that the samples in `folder` were made with, finished or not."""
    record = read_manifest(folder)
    if record is None:
        with suppress(OSError, ValueError):
            record = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    return record


class _SampleWriter:
    """Collects samples and writes a shard whenever one is full. Shards end where documents end."""

    def __init__(self, stage: StageFolder, config: CorpusConfig, corpus: str, progress: dict[str, Any]) -> None:
        self.stage, self.config, self.corpus = stage, config, corpus
        self.num_shards: int = progress["num_shards"]
        self.num_documents: int = progress["num_documents"]
        self.counts = Counts(progress["counts"])
        self.seen = HashSet()
        for index in range(self.num_shards):
            for batch in open_shard(stage.path(index), SAMPLES).iter_batches(columns=["text"]):
                self.seen.add(text_hashes(batch.column(0).to_pylist()))
        if self.num_shards:
            console.note(f"{stage.folder}: going on after {self.num_shards} finished shards")
        self._clear()
        if not self.num_shards:
            self._save_progress()

    def add(self, documents: list[Document], chunks: list[list[Chunk]], plan: SplitPlan) -> None:
        """Add the samples of some documents, without those whose text has been seen."""
        is_new = iter(self.seen.add(text_hashes(chunk.text for pieces in chunks for chunk in pieces)).tolist())
        for document, pieces in zip(documents, chunks, strict=True):
            kept = [number for number in range(len(pieces)) if next(is_new)]
            self._add_document(document, pieces, kept, plan)
            if len(self._rows["text"]) >= self.config.shard_samples or self._num_bytes >= SHARD_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what has been collected as a shard."""
        if not self._rows["text"]:
            return
        table = pa.table(self._rows, schema=SAMPLES.arrow_schema())
        with self.stage.writer(self.num_shards) as writer:
            for begin in range(0, table.num_rows, ROW_GROUP_ROWS):
                writer.write(table.slice(begin, ROW_GROUP_ROWS))
        self.num_shards += 1
        self._clear()
        self._save_progress()

    def _add_document(self, document: Document, pieces: list[Chunk], kept: list[int], plan: SplitPlan) -> None:
        ids = [sample_id(document.id, number) for number in kept]
        splits = plan.splits(document.source, document.id, ids)
        texts = [pieces[number].text for number in kept]
        tokens = [pieces[number].num_tokens for number in kept]
        sizes = [len(text.encode()) for text in texts]
        same = {"doc_id": document.id, "source": document.source}
        columns = {"sample_id": ids, "split": splits, "text": texts, "num_tokens": tokens, "num_bytes": sizes}
        for name, values in columns.items():
            self._rows[name].extend(values)  # type: ignore[arg-type]
        for name, value in same.items():
            self._rows[name].extend([value] * len(kept))
        self._num_bytes += sum(sizes)
        self.num_documents += 1
        counts = self.counts.of(document.source)
        counts.add(splits, tokens, sizes)
        counts.duplicates += len(pieces) - len(kept)

    def _clear(self) -> None:
        self._rows: dict[str, list[Any]] = {name: [] for name in SAMPLES.column_names}
        self._num_bytes = 0

    def _save_progress(self) -> None:
        progress = {
            "fingerprint": self.stage.provenance.fingerprint,
            "corpus": self.corpus,
            "config": asdict(self.config),
            "num_shards": self.num_shards,
            "num_documents": self.num_documents,
            "counts": self.counts.as_record(),
        }
        write_json(self.stage.folder / PROGRESS, progress)


def _write_samples(source: Corpus, scan: Scan, chunker: Chunker, plan: SplitPlan, writer: _SampleWriter) -> None:
    remaining: Iterator[Document] = islice(source.documents(), writer.num_documents, None)
    with console.progress("cutting documents", total=scan.num_documents, unit="documents") as bar:
        bar.advance(writer.num_documents)
        for batch in batches(remaining):
            writer.add(batch, chunker.cut([document.text for document in batch]), plan)
            bar.advance(len(batch))
    writer.flush()


def _read_progress(stage: StageFolder) -> dict[str, Any]:
    """How far an interrupted run of the same plan came."""
    with suppress(OSError, ValueError, KeyError):
        progress = json.loads((stage.folder / PROGRESS).read_text(encoding="utf-8"))
        shards_stand = all(stage.is_shard_done(index) for index in range(progress["num_shards"]))
        if progress["fingerprint"] == stage.provenance.fingerprint and shards_stand:
            return progress
    return {"num_shards": 0, "num_documents": 0, "counts": {}}


def _tokenizer_key(config: CorpusConfig, inputs: dict[str, str]) -> str:
    if config.tokenizer is not None:
        return inputs["tokenizer"]
    reading = {
        key: asdict(config)[key] for key in ("text_field", "source_field", "id_field", "on_error", "vocab_size", "seed")
    }
    return digest("trained", inputs["corpus"], reading)


def _make_tokenizer(folder: Path, config: CorpusConfig, scan: Scan, key: str) -> None:
    if is_saved(folder, key):
        return
    if config.tokenizer is None:
        text = scan.tokenizer_text
        console.note(f"training a tokenizer on {text.total / 1e6:,.1f} MB of text")
        save_tokenizer(train_tokenizer(text.items(), config.vocab_size, text.total), folder, key, END_OF_TEXT, {})
    else:
        tokenizer, end_of_text, own = fetch_tokenizer(config.tokenizer)
        save_tokenizer(tokenizer, folder, key, end_of_text, own)
    scan.tokenizer_text.clear()


def _tell_passed_over(source: Corpus) -> None:
    others = source.listing.passed_over
    if others:
        kinds = ", ".join(f"{count:,} × {suffix}" for suffix, count in sorted(others.items())[:5])
        console.note(f"{source.listing.corpus}: passing over files of other types ({kinds})")


def _tell_skipped(report: ReadReport) -> None:
    if report.num_skipped:
        console.warn(f"skipped {report.num_skipped:,} broken lines or files; the first: {report.problems[0]}")
    if report.num_empty:
        console.note(f"dropped {report.num_empty:,} documents without text")


def _warn_of_holdout(plan: SplitPlan, counts: Counts, config: CorpusConfig) -> None:
    if not counts.num_samples(TRAIN):
        raise CorpusError("no sample is left to train on: all are held out; give a smaller --holdout")
    if config.holdout == 0:
        return
    names = plan.sources_without_holdout
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
        console.warn(f"too small to hold anything out: {shown}")
    for split in (VALIDATION, TEST):
        if not counts.num_samples(split):
            console.warn(f"the {split} split is empty: nothing will be evaluated on it")


def absolute_corpus(corpus: str) -> str:
    """The name under which a corpus is remembered."""
    return corpus if "://" in corpus else str(Path(corpus).resolve())
