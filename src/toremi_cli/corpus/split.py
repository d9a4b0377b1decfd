"""The held-out split: by a hash of the document's id, source by source, with a floor for each source.

It depends on the ids and on nothing else: not on the order of the files, the other sources, or a seed. A document of
hash u (uniform in [0, 1)) is for validation if u < holdout/2 and for test if u < holdout. Where that leaves a source
fewer than `FLOOR_DOCUMENTS` of either, the documents of smallest hash are taken instead. Documents that name a group
(`--group-field`) are hashed by it, so that the pieces of one book stand on one side, in whatever source.

A source of few documents is split by block of text in the same way, so that a source of two huge documents has
something held out too. Blocks are counted in characters: which text is held out is settled before there is a tokenizer,
which is then trained on the other text.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from toremi_cli.corpus.blocks import split_blocks
from toremi_cli.corpus.hashing import HASH_RANGE, keyed_hash, text_hashes
from toremi_cli.schemas import TEST, TRAIN, VALIDATION

MIN_DOCUMENTS = 20
"""A source with fewer documents (or groups) is small: split by block, where its documents name no group."""
FLOOR_DOCUMENTS = 2
"""Documents of each source that go to validation at least, and as many to test."""
MIN_BLOCKS = 10
"""A small source of fewer blocks (or groups) than these has nothing held out on its account."""
FLOOR_BLOCKS = 1
"""Blocks (or groups) of a small source that go to validation at least, and as many to test."""
BLOCK_CHARS_PER_TOKEN = 6
"""A block of text has so many characters for each token of a sample: about one sample and a half."""


def holdout_hash(identifier: str) -> int:
    """The hash that decides whether a document, or a sample, is held out: 0 to 2^64 - 1."""
    return keyed_hash("held-out split", identifier)


@dataclass(frozen=True)
class Cuts:
    """Hashes below `validation` are for validation, those from there to below `test` for test."""

    validation: int
    test: int

    def split_of(self, value: int) -> str:
        """The split of a hash."""
        return VALIDATION if value < self.validation else TEST if value < self.test else TRAIN


NOTHING_HELD_OUT = Cuts(0, 0)


class CutFinder:
    """Finds the cuts for the hashes of one source, seen one by one, in constant memory."""

    def __init__(self, holdout: float, floor: int) -> None:
        """`holdout` is the share to hold out; `floor` the least number for each of validation and test."""
        self._half, self._whole = int(holdout / 2 * HASH_RANGE), int(holdout * HASH_RANGE)
        self._floor = floor if holdout > 0 else 0
        self._smallest: list[int] = []
        self._smallest_past_half: list[int] = []
        self._num_validation = self._num_test = 0
        self.count = 0

    def add(self, value: int) -> None:
        """See the hash of one more document or sample."""
        self.count += 1
        _keep_smallest(self._smallest, value, 2 * self._floor)
        if value < self._half:
            self._num_validation += 1
        else:
            self._num_test += value < self._whole
            _keep_smallest(self._smallest_past_half, value, self._floor)

    def add_all(self, values: np.ndarray) -> None:
        """See many hashes at once, (n,) uint64."""
        self.count += len(values)
        past_half = values[values >= np.uint64(self._half)]
        self._num_validation += len(values) - len(past_half)
        self._num_test += int((past_half < np.uint64(self._whole)).sum())
        for value in np.sort(values)[: 2 * self._floor].tolist():
            _keep_smallest(self._smallest, value, 2 * self._floor)
        for value in np.sort(past_half)[: self._floor].tolist():
            _keep_smallest(self._smallest_past_half, value, self._floor)

    def cuts(self, floor: int | None = None) -> Cuts:
        """The cuts; needs at least twice the floor of hashes to keep to it. `floor` may be lower than at first."""
        floor = self._floor if floor is None else min(floor, self._floor)
        if floor == 0:
            return Cuts(self._half, self._whole)
        ascending = sorted(-value for value in self._smallest)[: 2 * floor]
        past_half = sorted(-value for value in self._smallest_past_half)[:floor]
        if self._num_validation < floor:
            return Cuts(ascending[floor - 1] + 1, max(self._whole, ascending[-1] + 1))
        if self._num_test < floor:
            return Cuts(self._half, max([self._whole, *(value + 1 for value in past_half)]))
        return Cuts(self._half, self._whole)

    def exceptions(self, cuts: Cuts) -> dict[int, str]:
        """Hashes that these cuts hold out for the sake of the floor, or move, with their split."""
        plain = Cuts(self._half, self._whole)
        smallest = {-value for value in (*self._smallest, *self._smallest_past_half)}
        return {value: cuts.split_of(value) for value in smallest if cuts.split_of(value) != plain.split_of(value)}


def _keep_smallest(negated_heap: list[int], value: int, count: int) -> None:
    if len(negated_heap) < count:
        heapq.heappush(negated_heap, -value)
    elif count and value < -negated_heap[0]:
        heapq.heapreplace(negated_heap, -value)


@dataclass
class SplitPlan:
    """How each source is split: by document (or group), by block, or not at all."""

    block_chars: int = 0
    """Longest block of the sources that are split by block, in characters."""
    by_document: dict[str, Cuts] = field(default_factory=dict)
    by_block: dict[str, Cuts] = field(default_factory=dict)
    block_texts: frozenset[int] = frozenset()
    """Hashes of the texts that are cut in blocks: those of these sources, wherever one is repeated."""
    exceptions: dict[int, str] = field(default_factory=dict)
    """Splits of hashes whatever the source: of groups that one source's floor holds out and that others have too."""

    def units(self, texts: Sequence[str]) -> list[list[str]]:
        """Documents in the units of the split, joined the text again: blocks, or the document.

        They depend on the text alone, so that equal texts become equal samples.
        """
        if not self.block_texts:
            return [[text] for text in texts]
        return [
            list(split_blocks(text, self.block_chars)) if number in self.block_texts else [text]
            for text, number in zip(texts, text_hashes(texts).tolist(), strict=True)
        ]

    def split_of(self, source: str, holdout: int) -> str:
        """The split of a unit of this hash."""
        if source in self.by_block:
            return self.by_block[source].split_of(holdout)
        if holdout in self.exceptions:
            return self.exceptions[holdout]
        return self.by_document.get(source, NOTHING_HELD_OUT).split_of(holdout)

    def splits(self, source: str, split_key: str, num_units: int) -> list[str]:
        """The split of each unit of a document, whose `split_key` is its group or its id."""
        if source not in self.by_block:
            return [self.split_of(source, holdout_hash(split_key))] * num_units
        return [self.split_of(source, block_hash(split_key, number)) for number in range(num_units)]


def block_hash(doc_id: str, number: int) -> int:
    """The hash that decides whether block number 0, 1, … of a document is held out."""
    return holdout_hash(f"{doc_id}#{number}")
