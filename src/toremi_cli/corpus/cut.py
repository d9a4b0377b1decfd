"""The second pass: a part's documents are cut into samples, in pieces that become shards of the table `samples`.

An interrupted part is continued at the first document that no finished piece holds.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from toremi_cli import console
from toremi_cli.corpus.chunking import Chunk, Chunker
from toremi_cli.corpus.counts import Counts
from toremi_cli.corpus.fields import Document
from toremi_cli.corpus.hashing import HashSet, text_hashes
from toremi_cli.corpus.parts import Advance, Parts
from toremi_cli.corpus.scan import batches, sample_id
from toremi_cli.corpus.split import SplitPlan
from toremi_cli.files import atomic_file, find_json, write_json
from toremi_cli.lm.tokenizer import load_tokenizer
from toremi_cli.schemas import SAMPLES
from toremi_cli.stage import StageFolder
from toremi_cli.tables import ShardWriter

PROGRESS = "progress.json"
"""How far a part's finished pieces reach."""
SHARD_BYTES = 64_000_000
ROW_GROUP_ROWS = 4096


def cut_parts(
    parts: Parts, tokenizer: Path, plan: SplitPlan, num_documents: int, *, engine: str = "local", workers: int = 1
) -> None:
    """Cut all parts that aren't yet.

    Args:
        parts: of the corpus.
        tokenizer: its folder.
        plan: how sources are split.
        num_documents: of the whole corpus, for the progress bar.
        engine: where to work, as for `toremi_cli.engine.run_shards`.
        workers: processes.
    """
    for index in range(parts.num_parts):
        if not _pieces_stand(parts, index):
            forget_progress(parts, index)
    so_far = {index: read_progress(parts, index) for index in range(parts.num_parts)}
    pending = [index for index, progress in so_far.items() if not progress["finished"]]
    with console.progress("cutting documents", total=num_documents, unit="documents") as bar:
        bar.advance(sum(progress["num_documents"] for progress in so_far.values()))
        parts.run(
            partial(cut_part, parts, tokenizer.resolve(), plan),
            pending,
            advance=bar.advance,
            documents_of=lambda index: read_progress(parts, index)["num_documents"] - so_far[index]["num_documents"],
            engine=engine,
            workers=workers,
        )


def cut_part(parts: Parts, tokenizer: Path, plan: SplitPlan, index: int, *, advance: Advance) -> None:
    """Cut the documents of one part, without samples whose text came before in it."""
    chunker, writer = Chunker(load_tokenizer(tokenizer), parts.config.max_tokens), _PieceWriter(parts, index)
    remaining = islice(parts.corpus_of(index).documents(), writer.num_documents, None)
    for batch in batches(remaining):
        writer.add(batch, *cut_in_units(batch, chunker, plan))
        advance(len(batch))
    writer.finish()


def cut_in_units(batch: list[Document], chunker: Chunker, plan: SplitPlan) -> tuple[list[list[Chunk]], list[list[str]]]:
    """The samples of each document, none of which reaches over the end of a unit of the split; and their splits."""
    units = plan.units([document.text for document in batch])
    cut = iter(chunker.cut([unit for parts in units for unit in parts]))
    chunks: list[list[Chunk]] = []
    splits: list[list[str]] = []
    for document, parts in zip(batch, units, strict=True):
        of_units = plan.splits(document.source, document.split_key, len(parts))
        pairs = [(chunk, split) for split in of_units for chunk in next(cut)]
        chunks.append([chunk for chunk, _ in pairs])
        splits.append([split for _, split in pairs])
    return chunks, splits


def piece_path(parts: Parts, index: int, number: int) -> Path:
    """Where piece `number` of a part stands until it becomes a shard."""
    return _stage(parts, index).path(number)


def piece_hashes(parts: Parts, index: int, number: int) -> np.ndarray:
    """(num_samples,) uint64 hashes of the texts in a piece."""
    return np.asarray(np.load(_hash_path(parts, index, number), allow_pickle=False))


def read_progress(parts: Parts, index: int) -> dict[str, Any]:
    """How far a part is cut: documents done, counts of each finished piece, and whether that is all."""
    nothing = {"num_documents": 0, "pieces": [], "finished": False}
    return find_json(parts.folder(index) / PROGRESS) or nothing


def forget_progress(parts: Parts, index: int) -> None:
    """Let a part be cut anew."""
    (parts.folder(index) / PROGRESS).unlink(missing_ok=True)


def _pieces_stand(parts: Parts, index: int) -> bool:
    """Whether a part's finished pieces are whole; of a finished part some may have become shards."""
    progress, stage = read_progress(parts, index), _stage(parts, index)
    numbers = [number for number, piece in enumerate(progress["pieces"]) if piece["num_samples"]]
    return all(
        stage.is_shard_done(number) or (progress["finished"] and not stage.path(number).exists()) for number in numbers
    )


def write_rows(writer: ShardWriter, table: pa.Table) -> None:
    """Write rows of `samples` in row groups of one size."""
    for begin in range(0, table.num_rows, ROW_GROUP_ROWS):
        writer.write(table.slice(begin, ROW_GROUP_ROWS))


class _PieceWriter:
    """Collects samples and writes a piece whenever one is full. Pieces end where documents end."""

    def __init__(self, parts: Parts, index: int) -> None:
        self._parts, self._index = parts, index
        self._stage = _stage(parts, index)
        self._stage.begin()
        progress = read_progress(parts, index)
        self.num_documents: int = progress["num_documents"]
        self._pieces: list[dict[str, Any]] = progress["pieces"]
        self._seen = HashSet()
        for number in range(len(self._pieces)):
            self._seen.add(piece_hashes(parts, index, number))
        self._clear()

    def add(self, documents: list[Document], chunks: list[list[Chunk]], splits: list[list[str]]) -> None:
        """Add the samples of some documents, with their splits, without those whose text has been seen."""
        hashes = text_hashes(chunk.text for pieces in chunks for chunk in pieces)
        is_new = self._seen.add(hashes)
        begin = 0
        for document, pieces, of_pieces in zip(documents, chunks, splits, strict=True):
            end = begin + len(pieces)
            kept = np.flatnonzero(is_new[begin:end])
            self._hashes.append(hashes[begin:end][kept])
            self._add_document(document, pieces, of_pieces, kept.tolist())
            begin = end
            if len(self._rows["text"]) >= self._parts.config.shard_samples or self._num_bytes >= SHARD_BYTES:
                self._flush()

    def finish(self) -> None:
        """Write what is left; the part is done."""
        self._flush(finished=True)

    def _flush(self, finished: bool = False) -> None:
        number = len(self._pieces)
        if self._rows["text"]:
            with atomic_file(_hash_path(self._parts, self._index, number)) as path, path.open("wb") as file:
                np.save(file, np.concatenate(self._hashes), allow_pickle=False)
            table = pa.table(self._rows, schema=SAMPLES.arrow_schema())
            with self._stage.writer(number) as writer:
                write_rows(writer, table)
        if self._rows["text"] or self._counts.sources:
            self._pieces.append({"num_samples": len(self._rows["text"]), "counts": self._counts.as_record()})
        self._clear()
        progress = {"num_documents": self.num_documents, "pieces": self._pieces, "finished": finished}
        write_json(self._parts.folder(self._index) / PROGRESS, progress)

    def _add_document(self, document: Document, pieces: list[Chunk], of_pieces: list[str], kept: list[int]) -> None:
        ids = [sample_id(document.id, number) for number in kept]
        splits = [of_pieces[number] for number in kept]
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
        counts = self._counts.of(document.source)
        counts.add(splits, tokens, sizes)
        counts.duplicates += len(pieces) - len(kept)

    def _clear(self) -> None:
        self._rows: dict[str, list[Any]] = {name: [] for name in SAMPLES.column_names}
        self._hashes: list[np.ndarray] = []
        self._counts = Counts()
        self._num_bytes = 0


def _stage(parts: Parts, index: int) -> StageFolder:
    return StageFolder(parts.folder(index), SAMPLES, parts.provenance)


def _hash_path(parts: Parts, index: int, number: int) -> Path:
    return parts.folder(index) / f"hashes-{number:05d}.npy"
