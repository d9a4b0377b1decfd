"""What `toremi embed` counts, by source and split."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa

from toremi_cli.schemas import TEST, TRAIN, VALIDATION

SPLITS = (TRAIN, VALIDATION, TEST)


@dataclass
class SplitCounts:
    """Totals of one split of one source. A document split by block counts in each split it has samples in."""

    documents: int = 0
    samples: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass
class SourceCounts:
    """Totals of one source."""

    documents: int = 0
    """With at least one sample that is no duplicate."""
    samples: int = 0
    tokens: int = 0
    bytes: int = 0
    duplicates: int = 0
    """Samples dropped because the very same text came before, in any source."""
    splits: dict[str, SplitCounts] = field(default_factory=lambda: {name: SplitCounts() for name in SPLITS})

    def add(self, splits: list[str], tokens: list[int], sizes: list[int]) -> None:
        """Count one document by its samples that are kept."""
        self.documents += bool(splits)
        for split, num_tokens, num_bytes in zip(splits, tokens, sizes, strict=True):
            for counts in (self, self.splits[split]):
                counts.samples += 1
                counts.tokens += num_tokens
                counts.bytes += num_bytes
        for split in set(splits):
            self.splits[split].documents += 1


class Counts:
    """Totals of all sources, as they stand in the manifest."""

    def __init__(self, record: dict[str, Any] | None = None) -> None:
        """Empty, or as `as_record` gave them."""
        self.sources: dict[str, SourceCounts] = {}
        for name, values in (record or {}).items():
            splits = {split: SplitCounts(**counts) for split, counts in values["splits"].items()}
            self.sources[name] = SourceCounts(**{**values, "splits": splits})

    def of(self, source: str) -> SourceCounts:
        """The counts of a source."""
        return self.sources.setdefault(source, SourceCounts())

    def merge(self, other: Counts) -> None:
        """Add the counts of other documents."""
        for name, theirs in other.sources.items():
            ours = self.of(name)
            _add_up(ours, theirs)
            for split, counts in theirs.splits.items():
                _add_up(ours.splits[split], counts)

    def as_record(self) -> dict[str, Any]:
        """JSON-able, by source."""
        return {name: asdict(counts) for name, counts in sorted(self.sources.items())}

    def totals(self) -> dict[str, int]:
        """Sums over the sources."""
        keys = ("documents", "samples", "tokens", "bytes", "duplicates")
        return {key: sum(getattr(counts, key) for counts in self.sources.values()) for key in keys}

    def num_samples(self, split: str) -> int:
        """Samples of one split."""
        return sum(counts.splits[split].samples for counts in self.sources.values())


def _add_up(ours: Any, theirs: Any) -> None:
    for key, value in vars(theirs).items():
        if isinstance(value, int):
            setattr(ours, key, getattr(ours, key) + value)


def count_samples(table: pa.Table) -> Counts:
    """Counts of rows of `samples`, documents one after another."""
    counts = Counts()
    names = ("doc_id", "source", "split", "num_tokens", "num_bytes")
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    for _, document in groupby(rows, key=lambda row: row[0]):
        _, sources, splits, tokens, sizes = zip(*document, strict=True)
        counts.of(sources[0]).add(list(splits), list(tokens), list(sizes))
    return counts
