"""How much of the held-out text stands in the training text as well, by shingles of words.

A run of `SHINGLE_WORDS` words is rarely written twice by chance (Brown et al. 2020, "Language Models are Few-Shot
Learners", appendix C, look for 13 words). A held-out sample of which most such runs are found in the training text is
hardly unseen: a page saved twice, a licence, the pieces of one book. Exact repeats are gone before.

The held-out side is a sample of bounded size; each shard of the training text is compared with it by itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toremi_cli import console
from toremi_cli.corpus.hashing import keyed_hash
from toremi_cli.corpus.parts import Parts
from toremi_cli.corpus.stratified import StratifiedSample
from toremi_cli.engine import run_shards
from toremi_cli.files import atomic_file, read_json, write_json
from toremi_cli.schemas import TEST, TRAIN, VALIDATION
from toremi_cli.stage import StageFolder

SHINGLE_WORDS = 13
SHINGLE_CHARS = 24
"""Of text without spaces, in place of words."""
LONGEST_WORD = 20
"""Text of longer words, on average, is taken to be without spaces."""
MOST = 0.5
"""A sample is shared if more than this part of its shingles is in the training text."""
HELD_OUT_BYTES = 16_000_000
"""Held-out text that is looked at, at most, in bytes: drawn by hash."""
WORTH_WARNING = 0.1
"""Part of the held-out samples above which a warning is due."""
BATCH_ROWS = 1024
LEAST_SHARDS_TO_SHARE = 8
"""With fewer, starting processes takes longer than they save."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BITMAP_BITS = 24


def shingles(text: str) -> np.ndarray:
    """Hashes of the runs of words in a text, (num_runs,) uint64; none if it is too short."""
    words = text.lower().encode().split()
    if len(text) > LONGEST_WORD * max(len(words), 1):
        units = np.frombuffer("".join(text.split()).encode("utf-32-le"), np.uint32).astype(np.uint64)
        length = SHINGLE_CHARS
    else:
        units = np.fromiter(map(zlib.crc32, words), np.uint64, len(words))
        length = SHINGLE_WORDS
    num_runs = len(units) - length + 1
    if num_runs < 1:
        return np.empty(0, np.uint64)
    total = np.zeros(num_runs, np.uint64)
    for offset in range(length):  # modulo 2^64, and mixed at the end
        total = (total + units[offset : offset + num_runs]) * _MULTIPLIER
    return np.asarray(total ^ (total >> np.uint64(29)), np.uint64)


@dataclass
class Overlap:
    """Held-out samples that were looked at, and how many of them share most of their shingles with training text."""

    num_samples: int = 0
    num_shared: int = 0
    shared_by_source: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The part that is shared."""
        return self.num_shared / self.num_samples if self.num_samples else 0.0


def measure_overlap(
    parts: Parts, stage: StageFolder, num_shards: int, *, engine: str = "local", workers: int = 1
) -> Overlap:
    """Compare the held-out samples with the training text, shard by shard.

    Args:
        parts: whose folder holds what is found, until the stage is finished.
        stage: holds the shards of `samples`.
        num_shards: how many there are.
        engine: where to work, as for `toremi_cli.engine.run_shards`.
        workers: processes.
    """
    if num_shards < LEAST_SHARDS_TO_SHARE:
        engine, workers = "local", 1
    with console.progress("comparing held-out text with the rest", total=2 * num_shards, unit="shards") as bar:
        for _ in run_shards(partial(draw_shard, parts, stage), range(num_shards), engine=engine, workers=workers):
            bar.advance()
        runs_of = [(source, np.unique(shingles(text))) for source, text in _drawn(parts, num_shards)]
        known = np.unique(np.concatenate([np.empty(0, np.uint64), *(runs for _, runs in runs_of)]))
        if not len(known):
            return Overlap()
        with atomic_file(_known_path(parts)) as path, path.open("wb") as file:
            np.save(file, known, allow_pickle=False)
        for _ in run_shards(partial(look_up_shard, parts, stage), range(num_shards), engine=engine, workers=workers):
            bar.advance()
    found = np.zeros(len(known), bool)
    for index in range(num_shards):
        found[np.load(_found_path(parts, index), allow_pickle=False)] = True
    return _count([(source, found[np.searchsorted(known, runs)]) for source, runs in runs_of if len(runs)])


def _count(found_of: Sequence[tuple[str, np.ndarray]]) -> Overlap:
    """Held-out samples by their source and which of their shingles were found."""
    overlap = Overlap(num_samples=len(found_of))
    for source, found in found_of:
        is_shared = bool(found.mean() > MOST)
        overlap.num_shared += is_shared
        overlap.shared_by_source[source] = overlap.shared_by_source.get(source, 0) + is_shared
    return overlap


def draw_shard(parts: Parts, stage: StageFolder, index: int) -> None:
    """Write down held-out samples of one shard, those of smallest hash if they are too many."""
    drawn: StratifiedSample[tuple[str, int, str]] = StratifiedSample(HELD_OUT_BYTES)
    for row, text in _rows(stage.path(index), (VALIDATION, TEST)):
        key = keyed_hash("overlap", row["sample_id"])
        if drawn.wants("", key):
            drawn.add("", key, len(text.encode()), (row["source"], key, text))
    write_json(_drawn_path(parts, index), drawn.items())


def _drawn(parts: Parts, num_shards: int) -> list[tuple[str, str]]:
    """Sources and texts of held-out samples, each as likely as any other."""
    drawn: StratifiedSample[tuple[str, str]] = StratifiedSample(HELD_OUT_BYTES)
    for index in range(num_shards):
        for source, key, text in read_json(_drawn_path(parts, index)):
            drawn.add("", key, len(text.encode()), (source, text))
    return drawn.items()


def look_up_shard(parts: Parts, stage: StageFolder, index: int) -> None:
    """Write down which of the held-out shingles stand in one shard's training text."""
    known, bitmap = _known_shingles(_known_path(parts), parts.provenance.fingerprint)
    found = np.zeros(len(known), bool)
    for _, text in _rows(stage.path(index), (TRAIN,)):
        runs = shingles(text)
        runs = runs[bitmap[runs >> np.uint64(64 - _BITMAP_BITS)]]
        places = np.minimum(np.searchsorted(known, runs), len(known) - 1)
        found[places[known[places] == runs]] = True
    with atomic_file(_found_path(parts, index)) as path, path.open("wb") as file:
        np.save(file, np.flatnonzero(found), allow_pickle=False)


@lru_cache(maxsize=1)
def _known_shingles(path: Path, fingerprint: str) -> tuple[np.ndarray, np.ndarray]:
    """The held-out shingles, ascending, and their first bits, which tell most others apart."""
    known = np.load(path, allow_pickle=False)
    bitmap = np.zeros(1 << _BITMAP_BITS, bool)
    bitmap[known >> np.uint64(64 - _BITMAP_BITS)] = True
    return known, bitmap


def _rows(path: Path, splits: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    """The samples of some splits in a shard: id and source, and the text."""
    for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["sample_id", "source", "split", "text"]):
        wanted = batch.filter(pc.is_in(batch.column("split"), pa.array(splits)))
        for row in wanted.select(["sample_id", "source", "text"]).to_pylist():
            yield row, row["text"]


def _known_path(parts: Parts) -> Path:
    return parts.root / "held-out-shingles.npy"


def _found_path(parts: Parts, index: int) -> Path:
    return parts.root / f"shared-{index:05d}.npy"


def _drawn_path(parts: Parts, index: int) -> Path:
    return parts.root / f"held-out-{index:05d}.json"
