"""The first pass over a corpus: every line is read once before anything is written.

It finds broken input early, counts documents by source, refuses repeated ids, sees the hashes that the held-out split
is made of and draws text for the tokenizer (see `plan`). Each part is read by itself; then their hashes are laid side
by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np

from toremi_cli import console
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.fields import Document
from toremi_cli.corpus.first_seen import mark_first
from toremi_cli.corpus.hashing import HashSet, keyed_hash, text_hashes
from toremi_cli.corpus.ids import repeated_id
from toremi_cli.corpus.parts import Advance, Parts
from toremi_cli.corpus.readers import MAX_REMEMBERED_PROBLEMS, Corpus, ReadReport
from toremi_cli.corpus.same_files import content_hash
from toremi_cli.corpus.split import FLOOR_DOCUMENTS, MIN_DOCUMENTS, CutFinder, holdout_hash
from toremi_cli.corpus.stratified import StratifiedSample
from toremi_cli.corpus.tokenizer import TRAINING_BYTES
from toremi_cli.errors import CorpusError
from toremi_cli.files import atomic_file, read_json, write_json

BATCH_DOCUMENTS = 1024
BATCH_CHARS = 4_000_000
PIECE_CHARS = 1 << 16
"""A long document enters the tokenizer's training text in pieces of so many characters, each drawn or not."""
LEAST_PART_BYTES = 250_000
"""Of the tokenizer's training text, what each of very many parts offers at least."""
HASHES, TEXT, FOUND = "scan.npz", "tokenizer-text.json", "scan.json"
"""What a part's folder holds once it is read; FOUND comes last."""


class Piece(NamedTuple):
    """Text that may be drawn for the tokenizer."""

    source: str
    key: int
    """Decides whether it is drawn."""
    holdout: int
    """Hash that decides whether it is held out."""
    text: str


@dataclass
class Scan:
    """What the first pass found."""

    num_documents: int = 0
    """With text, repeated texts among them."""
    report: ReadReport = field(default_factory=ReadReport)
    finders: dict[str, CutFinder] = field(default_factory=dict)
    """By source; they have seen each distinct text once, or each group that has one."""
    files_of: dict[str, set[str]] = field(default_factory=dict)
    """By small source: the files that hold it."""
    texts_of: dict[str, set[int]] = field(default_factory=dict)
    """By source: hashes of the texts of its first `MIN_DOCUMENTS` documents, which of a small source are all."""
    file_hashes: list[str] = field(default_factory=list)
    """Of the contents of each file, in the corpus' order."""
    drawn: StratifiedSample[Piece] = field(default_factory=lambda: StratifiedSample(TRAINING_BYTES))
    """Text for the tokenizer, that which will be held out among it."""

    @property
    def small_sources(self) -> set[str]:
        """Sources of few documents, or few groups."""
        return {source for source, finder in self.finders.items() if finder.count < MIN_DOCUMENTS}


def drawing_budget(config: CorpusConfig) -> int:
    """Bytes to draw, so that enough is left without what is held out."""
    return int(TRAINING_BYTES / (1 - config.holdout))


def pieces_of(document: Document, config: CorpusConfig) -> Iterator[Piece]:
    """A document's text in pieces to draw for the tokenizer."""
    holdout = holdout_hash(document.split_key)
    for begin in range(0, len(document.text), PIECE_CHARS):
        key = keyed_hash("tokenizer text", config.seed, document.id, begin)
        yield Piece(document.source, key, holdout, document.text[begin : begin + PIECE_CHARS])


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents for work in bulk, bounded in number and in characters."""
    batch: list[Document] = []
    num_chars = 0
    for document in documents:
        batch.append(document)
        num_chars += len(document.text)
        if len(batch) >= BATCH_DOCUMENTS or num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def scan_corpus(parts: Parts, corpus: Corpus, *, engine: str = "local", workers: int = 1) -> Scan:
    """Read the whole corpus once.

    Raises:
        CorpusError: broken input, a repeated id, or no text at all.
    """
    pending = [index for index in range(parts.num_parts) if not (parts.folder(index) / FOUND).exists()]
    with console.progress("reading the corpus", unit="documents") as bar:
        parts.run(
            partial(scan_part, parts),
            pending,
            advance=bar.advance,
            documents_of=lambda index: read_json(parts.folder(index) / FOUND)["num_documents"],
            engine=engine,
            workers=workers,
        )
    scan = _side_by_side(parts, corpus, engine, workers)
    if not scan.num_documents:
        report = scan.report
        raise CorpusError(
            f"{corpus.listing.corpus}: no text in {len(corpus.listing.files):,} files "
            f"({report.num_empty:,} empty documents, {report.num_skipped:,} skipped{_first_of(report)})"
        )
    return scan


def scan_part(parts: Parts, index: int, *, advance: Advance) -> None:
    """Read one part and write down what was found.

    Raises:
        CorpusError: broken input.
    """
    most = drawing_budget(parts.config)
    findings = _Findings(parts.config, min(most, max(LEAST_PART_BYTES, 8 * most // parts.num_parts)))
    corpus = parts.corpus_of(index)
    for batch in batches(corpus.documents(findings.report)):
        findings.add(batch)
        advance(len(batch))
    folder = parts.folder(index)
    with atomic_file(folder / HASHES) as path, path.open("wb") as file:
        np.savez(file, allow_pickle=False, **findings.arrays())
    write_json(folder / TEXT, findings.drawn.items())
    hashes = [content_hash(corpus.listing.filesystem, file) for file in corpus.listing.files if not file.begin]
    write_json(folder / FOUND, {**findings.as_record(), "file_hashes": hashes})


class _Findings:
    """What one part holds, while it is read."""

    def __init__(self, config: CorpusConfig, budget: int) -> None:
        self.report = ReadReport()
        self._config = config
        self._num_documents = 0
        self._texts = HashSet()
        self._sources: dict[str, int] = {}
        self._files: dict[str, dict[str, None]] = {}
        self._columns: list[tuple[np.ndarray, ...]] = []
        self.drawn: StratifiedSample[tuple[int, Piece]] = StratifiedSample(budget)
        """With the number of the document."""

    def add(self, batch: list[Document]) -> None:
        """See some documents."""
        texts = text_hashes(document.text for document in batch)
        sources = [self._sources.setdefault(document.source, len(self._sources)) for document in batch]
        holdout = [holdout_hash(document.split_key) for document in batch]
        ids = text_hashes(document.id for document in batch)
        self._columns.append((ids, texts, np.array(holdout, np.uint64), np.array(sources, np.int32)))
        for number, is_new in enumerate(self._texts.add(texts).tolist()):
            if is_new:  # its samples would be dropped as duplicates otherwise
                self._see(batch[number], self._num_documents + number)
        self._num_documents += len(batch)

    def _see(self, document: Document, number: int) -> None:
        self._files.setdefault(document.source, {})[document.file] = None
        if self._config.tokenizer is None:
            for piece in pieces_of(document, self._config):
                self.drawn.add(piece.source, piece.key, len(piece.text.encode()), (number, piece))

    def arrays(self) -> dict[str, np.ndarray]:
        """Of each document, (num_documents,): hashes of its id and text, the one that splits, its source's number."""
        names = ("ids", "texts", "holdout", "sources")
        kinds = (np.uint64, np.uint64, np.uint64, np.int32)
        columns = zip(*self._columns, strict=True) if self._columns else ([] for _ in names)
        return {
            name: np.concatenate([np.empty(0, kind), *column])
            for name, kind, column in zip(names, kinds, columns, strict=True)
        }

    def as_record(self) -> dict[str, Any]:
        """The rest, JSON-able."""
        return {
            "num_documents": self._num_documents,
            "report": asdict(self.report),
            "sources": list(self._sources),
            "files": {source: list(files) for source, files in self._files.items()},
        }


def read_hashes(parts: Parts, name: str, index: int) -> np.ndarray:
    """One of the arrays of `_Findings` that a part keeps."""
    with np.load(parts.folder(index) / HASHES, allow_pickle=False) as arrays:
        return arrays[name]


def _side_by_side(parts: Parts, corpus: Corpus, engine: str, workers: int) -> Scan:
    """Put together what the parts hold, in their order: of equal texts the first counts."""
    sizes = [read_json(parts.folder(index) / FOUND)["num_documents"] for index in range(parts.num_parts)]
    ids, texts = (
        mark_first(partial(read_hashes, parts, name), sizes, parts.root / name, engine=engine, workers=workers)
        for name in ("ids", "texts")
    )
    scan, groups = Scan(), HashSet()
    scan.drawn = StratifiedSample(drawing_budget(parts.config))
    for index in range(parts.num_parts):
        found = read_json(parts.folder(index) / FOUND)
        is_new_id, is_new = ids.marks_of(index), texts.marks_of(index)
        holdout, sources, hashes = (read_hashes(parts, name, index)[is_new] for name in ("holdout", "sources", "texts"))
        if not is_new_id.all():
            _refuse_repeated_id(corpus, parts.corpus_of(index), int(is_new_id.argmin()))
        by_source = np.argsort(sources, kind="stable")
        bounds = np.searchsorted(sources[by_source], np.arange(len(found["sources"]) + 1))
        for source, (begin, end) in zip(found["sources"], pairwise(bounds), strict=True):
            finder = scan.finders.setdefault(source, CutFinder(parts.config.holdout, FLOOR_DOCUMENTS))
            found_here, known = holdout[by_source[begin:end]], scan.texts_of.setdefault(source, set())
            known.update(hashes[by_source[begin:end]][: MIN_DOCUMENTS - len(known)].tolist())
            if parts.config.group_field is not None:
                found_here = found_here[groups.add(found_here ^ np.uint64(keyed_hash("source", source)))]
            finder.add_all(found_here)
        for number, fields in read_json(parts.folder(index) / TEXT):
            piece = Piece(*fields)
            if is_new[number]:
                scan.drawn.add(piece.source, piece.key, len(piece.text.encode()), piece)
        _add_report(scan.report, found["report"])
        scan.num_documents += found["num_documents"]
        scan.file_hashes += found["file_hashes"]
    small = scan.small_sources
    for index in range(parts.num_parts if small else 0):
        for source, files in read_json(parts.folder(index) / FOUND)["files"].items():
            if source in small:
                scan.files_of.setdefault(source, set()).update(files)
    return scan


def _add_report(report: ReadReport, more: dict[str, Any]) -> None:
    report.num_skipped += more["num_skipped"]
    report.num_empty += more["num_empty"]
    report.num_not_text += more["num_not_text"]
    report.problems = [*report.problems, *more["problems"]][:MAX_REMEMBERED_PROBLEMS]


def sample_id(doc_id: str, number: int) -> str:
    """The id of a document's sample number 0, 1, …"""
    return f"{doc_id}#{number}"


def _refuse_repeated_id(corpus: Corpus, part: Corpus, number: int) -> None:
    raise repeated_id(corpus, next(islice(part.documents(), number, None)))


def _first_of(report: ReadReport) -> str:
    return f"; the first: {report.problems[0]}" if report.problems else ""
