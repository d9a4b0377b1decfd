"""The held-out split: by a hash of the document's id, source by source, with a floor for each source.

It depends on the ids and on nothing else: not on the order of the files, the other sources, or a seed. A document of
hash u (uniform in [0, 1)) is for validation if u < holdout/2 and for test if u < holdout. Where that leaves a source
fewer than `FLOOR_DOCUMENTS` of either, the documents of smallest hash are taken instead. A source of few documents is
split by sample in the same way, so that a source of two huge documents has something held out too.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from toremi_cli.corpus.hashing import HASH_RANGE, keyed_hash
from toremi_cli.schemas import TEST, TRAIN, VALIDATION

MIN_DOCUMENTS = 20
"""A source with fewer documents is split by sample."""
FLOOR_DOCUMENTS = 2
"""Documents of each source that go to validation at least, and as many to test."""
MIN_SAMPLES = 10
"""A source of few documents and fewer samples than these has nothing held out."""
FLOOR_SAMPLES = 1


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

    def cuts(self) -> Cuts:
        """The cuts; needs at least twice the floor of hashes to keep to it."""
        if self._floor == 0:
            return Cuts(self._half, self._whole)
        ascending = sorted(-value for value in self._smallest)
        if self._num_validation < self._floor:
            validation = ascending[self._floor - 1] + 1
            return Cuts(validation, max(self._whole, ascending[-1] + 1))
        if self._num_test < self._floor:
            return Cuts(self._half, max([self._whole, *(1 - value for value in self._smallest_past_half)]))
        return Cuts(self._half, self._whole)


def _keep_smallest(negated_heap: list[int], value: int, count: int) -> None:
    if len(negated_heap) < count:
        heapq.heappush(negated_heap, -value)
    elif count and value < -negated_heap[0]:
        heapq.heapreplace(negated_heap, -value)


@dataclass
class SplitPlan:
    """How each source is split: by document, by sample, or not at all."""

    by_document: dict[str, Cuts] = field(default_factory=dict)
    by_sample: dict[str, Cuts] = field(default_factory=dict)

    def splits(self, source: str, doc_id: str, sample_ids: Iterable[str]) -> list[str]:
        """The split of each sample of a document."""
        cuts = self.by_sample.get(source)
        if cuts is not None:
            return [cuts.split_of(holdout_hash(sample_id)) for sample_id in sample_ids]
        split = self.by_document.get(source, NOTHING_HELD_OUT).split_of(holdout_hash(doc_id))
        return [split for _ in sample_ids]

    @property
    def sources_without_holdout(self) -> list[str]:
        """Sources too small to hold anything out."""
        return sorted(name for name, cuts in self.by_sample.items() if cuts == NOTHING_HELD_OUT)
