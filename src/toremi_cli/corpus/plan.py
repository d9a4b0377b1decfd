"""Between the passes: the held-out split is settled, and the tokenizer's text drawn from what is left."""

from __future__ import annotations

from collections.abc import Iterator

from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.hashing import HashSet, keyed_hash, text_hashes
from toremi_cli.corpus.readers import Corpus
from toremi_cli.corpus.scan import Piece, Scan, batches, drawing_budget
from toremi_cli.corpus.split import (
    BLOCK_CHARS_PER_TOKEN,
    FLOOR_BLOCKS,
    MIN_BLOCKS,
    NOTHING_HELD_OUT,
    CutFinder,
    SplitPlan,
    block_hash,
)
from toremi_cli.corpus.stratified import StratifiedSample
from toremi_cli.corpus.tokenizer import TRAINING_BYTES
from toremi_cli.schemas import TRAIN


def settle_split(corpus: Corpus, scan: Scan, config: CorpusConfig) -> tuple[SplitPlan, StratifiedSample[str]]:
    """The held-out split of every source, and text of the training split for the tokenizer.

    Sources of few documents are read once more, in blocks.
    """
    small = scan.small_sources if config.group_field is None else set()
    block_texts = frozenset().union(*(scan.texts_of[source] for source in small))
    plan = SplitPlan(block_chars=BLOCK_CHARS_PER_TOKEN * config.max_tokens, block_texts=block_texts)
    for source, finder in sorted(scan.finders.items()):
        if source not in small:
            floor = None if source not in scan.small_sources else FLOOR_BLOCKS if finder.count >= MIN_BLOCKS else 0
            plan.by_document[source] = cuts = finder.cuts(floor)
            if config.group_field is not None:  # other ids than groups stand in one source only
                plan.exceptions = {**finder.exceptions(cuts), **plan.exceptions}
    drawn: StratifiedSample[Piece] = StratifiedSample(drawing_budget(config))
    finders = {source: CutFinder(config.holdout, FLOOR_BLOCKS) for source in small}
    for block in _blocks(corpus, scan, config, plan, small):
        finders[block.source].add(block.holdout)
        if config.tokenizer is None:
            drawn.add(block.source, block.key, len(block.text.encode()), block)
    for source, finder in finders.items():
        plan.by_block[source] = finder.cuts() if finder.count >= MIN_BLOCKS else NOTHING_HELD_OUT
    text: StratifiedSample[str] = StratifiedSample(TRAINING_BYTES)
    for piece in (*drawn.items(), *(piece for piece in scan.drawn.items() if piece.source not in small)):
        if plan.split_of(piece.source, piece.holdout) == TRAIN:
            text.add(piece.source, piece.key, len(piece.text.encode()), piece.text)
    return plan, text


def _blocks(corpus: Corpus, scan: Scan, config: CorpusConfig, plan: SplitPlan, small: set[str]) -> Iterator[Piece]:
    """The distinct blocks of the small sources."""
    files = set().union(*(scan.files_of.get(source, set()) for source in small))
    seen = HashSet()
    for batch in batches(d for d in corpus.documents(only=files) if d.source in small):
        texts = [document.text for document in batch]
        for document, units, number in zip(batch, plan.units(texts), text_hashes(texts).tolist(), strict=True):
            if number not in scan.texts_of[document.source]:
                continue  # it stands in another source before
            for number in seen.add(text_hashes(units)).nonzero()[0].tolist():
                key = keyed_hash("tokenizer text", config.seed, document.id, number)
                yield Piece(document.source, key, block_hash(document.split_key, number), units[number])
