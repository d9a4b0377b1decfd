"""The first pass over a corpus: every line is read once before anything is written.

It finds broken input early, counts documents by source, refuses repeated ids, finds where to cut the held-out split and
draws the text that the tokenizer is trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from toremi_cli import console
from toremi_cli.corpus.chunking import Chunker
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.hashing import HashSet, keyed_hash, text_hashes
from toremi_cli.corpus.readers import Corpus, Document, ReadReport
from toremi_cli.corpus.split import (
    FLOOR_DOCUMENTS,
    FLOOR_SAMPLES,
    MIN_DOCUMENTS,
    MIN_SAMPLES,
    NOTHING_HELD_OUT,
    CutFinder,
    SplitPlan,
    holdout_hash,
)
from toremi_cli.corpus.stratified import StratifiedSample
from toremi_cli.corpus.tokenizer import TRAINING_BYTES
from toremi_cli.errors import CorpusError

BATCH_DOCUMENTS = 1024
BATCH_CHARS = 4_000_000
PIECE_CHARS = 1 << 16
"""A long document enters the tokenizer's training text in pieces of so many characters, each drawn or not."""


@dataclass
class Scan:
    """What the first pass found."""

    num_documents: int = 0
    """With text, repeated texts among them."""
    report: ReadReport = field(default_factory=ReadReport)
    finders: dict[str, CutFinder] = field(default_factory=dict)
    """By source; they have seen each distinct text once."""
    files_of: dict[str, set[str]] = field(default_factory=dict)
    """By source of few documents so far: the files that hold them."""
    tokenizer_text: StratifiedSample[str] = field(default_factory=lambda: StratifiedSample(TRAINING_BYTES))


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


def scan_corpus(corpus: Corpus, config: CorpusConfig) -> Scan:
    """Read the whole corpus once.

    Raises:
        CorpusError: broken input, a repeated id, or no text at all.
    """
    scan = Scan()
    ids, texts = HashSet(), HashSet()
    with console.progress("reading the corpus", unit="documents") as bar:
        for batch in batches(corpus.documents(scan.report)):
            is_new_id = ids.add(text_hashes(document.id for document in batch))
            if not is_new_id.all():
                _refuse_repeated_id(corpus, batch[int(is_new_id.argmin())])
            is_new_text = texts.add(text_hashes(document.text for document in batch))
            for document, is_new in zip(batch, is_new_text, strict=True):
                _see(scan, document, bool(is_new), config)
            scan.num_documents += len(batch)
            bar.advance(len(batch))
    if not scan.num_documents:
        report = scan.report
        raise CorpusError(
            f"{corpus.listing.corpus}: no text in {len(corpus.listing.files):,} files "
            f"({report.num_empty:,} empty documents, {report.num_skipped:,} skipped{_first_of(report)})"
        )
    return scan


def plan_split(corpus: Corpus, scan: Scan, config: CorpusConfig, chunker: Chunker) -> SplitPlan:
    """Settle the held-out split of every source; those of few documents are read and cut once more."""
    plan = SplitPlan()
    small = {source for source, finder in scan.finders.items() if finder.count < MIN_DOCUMENTS}
    plan.by_document = {source: finder.cuts() for source, finder in scan.finders.items() if source not in small}
    if config.holdout == 0 or not small:
        return plan
    finders = {source: CutFinder(config.holdout, FLOOR_SAMPLES) for source in small}
    files = set().union(*(scan.files_of.get(source, set()) for source in small))
    seen = HashSet()
    for batch in batches(d for d in corpus.documents(only=files) if d.source in small):
        for document, chunks in zip(batch, chunker.cut([d.text for d in batch]), strict=True):
            is_new = seen.add(text_hashes(chunk.text for chunk in chunks))
            for number in is_new.nonzero()[0]:
                finders[document.source].add(holdout_hash(sample_id(document.id, int(number))))
    for source, finder in finders.items():
        plan.by_sample[source] = finder.cuts() if finder.count >= MIN_SAMPLES else NOTHING_HELD_OUT
    return plan


def sample_id(doc_id: str, number: int) -> str:
    """The id of a document's sample number 0, 1, …"""
    return f"{doc_id}#{number}"


def _see(scan: Scan, document: Document, is_new_text: bool, config: CorpusConfig) -> None:
    source = document.source
    finder = scan.finders.get(source)
    if finder is None:
        finder = scan.finders[source] = CutFinder(config.holdout, FLOOR_DOCUMENTS)
    if not is_new_text:
        return  # its samples will be dropped as duplicates: it must not fill the held-out floor
    finder.add(holdout_hash(document.id))
    if finder.count < MIN_DOCUMENTS:
        scan.files_of.setdefault(source, set()).add(document.file)
    elif finder.count == MIN_DOCUMENTS:
        scan.files_of.pop(source, None)
    if config.tokenizer is None:
        for begin in range(0, len(document.text), PIECE_CHARS):
            piece = document.text[begin : begin + PIECE_CHARS]
            key = keyed_hash("tokenizer text", config.seed, document.id, begin)
            scan.tokenizer_text.add(source, key, len(piece.encode()), piece)


def _refuse_repeated_id(corpus: Corpus, document: Document) -> None:
    first = next(d for d in corpus.documents() if d.id == document.id)
    raise CorpusError(
        f"{document.place}: id '{document.id}' again, first at {first.place}; ids must differ: "
        "name another field with --id-field, or --id-field none to use file and line"
    )


def _first_of(report: ReadReport) -> str:
    return f"; the first: {report.problems[0]}" if report.problems else ""
