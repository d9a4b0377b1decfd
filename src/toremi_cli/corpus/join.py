"""The parts come together: their pieces become the shards of `samples`, without texts that stand in a part before.

Whether a text is new is settled here, by the hashes of all pieces in order; a piece in which all are is moved, and only
one with repeated texts is written again. So no text is read twice, and no two shards depend on each other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toremi_cli import console
from toremi_cli.corpus.counts import Counts, count_samples
from toremi_cli.corpus.cut import ROW_GROUP_ROWS, piece_hashes, piece_path, read_progress
from toremi_cli.corpus.hashing import HashSet
from toremi_cli.corpus.parts import Parts
from toremi_cli.engine import run_shards
from toremi_cli.errors import TableError
from toremi_cli.schemas import SAMPLES
from toremi_cli.stage import StageFolder
from toremi_cli.tables import atomic_file, write_json


@dataclass(frozen=True)
class _Shard:
    """A shard to be: the piece it is made of, and the rows of it that stay (None: all)."""

    piece: Path
    counts: Counts
    kept: Path | None


def join_parts(parts: Parts, stage: StageFolder, *, engine: str = "local", workers: int = 1) -> tuple[int, Counts]:
    """Make shards of all pieces; return how many, and what all of them hold.

    Raises:
        TableError: a piece that was finished is gone.
    """
    shards, counts = _shards(parts)
    again = []
    for index, shard in enumerate(shards):
        if shard.kept is not None:
            if not (stage.is_shard_done(index) and _counts_path(parts, index).exists()):
                again.append(index)
        elif not stage.is_shard_done(index):
            if not shard.piece.exists():
                raise TableError(
                    f"{stage.path(index)}: is damaged, and its piece {shard.piece} is gone; "
                    f"remove {parts.root} and run the same command again"
                )
            shard.piece.replace(stage.path(index))
    if again:
        work = partial(_write_without_repeated, parts, stage, shards)
        with console.progress("dropping repeated texts", total=len(again), unit="shards") as bar:
            for _ in run_shards(work, again, engine=engine, workers=workers):
                bar.advance()
    for index, shard in enumerate(shards):
        if shard.kept is None:
            counts.merge(shard.counts)
        else:
            counts.merge(Counts(json.loads(_counts_path(parts, index).read_text(encoding="utf-8"))))
    return len(shards), counts


def _shards(parts: Parts) -> tuple[list[_Shard], Counts]:
    """The shards to be, in order, and the counts of pieces of which nothing stays."""
    shards: list[_Shard] = []
    without = Counts()
    seen = HashSet()
    for index in range(parts.num_parts):
        for number, piece in enumerate(read_progress(parts, index)["pieces"]):
            counts = Counts(piece["counts"])
            if not piece["num_samples"]:
                without.merge(counts)
                continue
            kept = None
            if parts.num_parts > 1:  # within a part they have been dropped
                is_new = seen.add(piece_hashes(parts, index, number))
                if not is_new.all():
                    kept = parts.folder(index) / f"kept-{number:05d}.npy"
                    with atomic_file(kept) as path, path.open("wb") as file:
                        np.save(file, is_new, allow_pickle=False)
                if not is_new.any():
                    without.merge(_all_repeated(counts))
                    continue
            shards.append(_Shard(piece_path(parts, index, number), counts, kept))
    return shards, without


def _write_without_repeated(parts: Parts, stage: StageFolder, shards: list[_Shard], index: int) -> None:
    shard = shards[index]
    assert shard.kept is not None
    is_new = np.load(shard.kept, allow_pickle=False)
    whole = pq.read_table(shard.piece, schema=SAMPLES.arrow_schema())
    table = whole.filter(pa.array(is_new))
    with stage.writer(index) as writer:
        for begin in range(0, table.num_rows, ROW_GROUP_ROWS):
            writer.write(table.slice(begin, ROW_GROUP_ROWS))
    counts = count_samples(table)
    for source, before in shard.counts.sources.items():
        ours = counts.of(source)
        ours.duplicates = before.duplicates + before.samples - ours.samples
    write_json(_counts_path(parts, index), counts.as_record())


def _all_repeated(counts: Counts) -> Counts:
    repeated = Counts()
    for source, before in counts.sources.items():
        repeated.of(source).duplicates = before.duplicates + before.samples
    return repeated


def _counts_path(parts: Parts, index: int) -> Path:
    return parts.root / f"counts-{index:05d}.json"
