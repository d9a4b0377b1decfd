"""The parts come together: their pieces become the shards of `samples`, without texts that stand in a part before.

Whether a text is new is settled here, by the hashes of all pieces in order; a piece in which all are is moved, and only
one with repeated texts is written again. So no text is read twice, and no two shards depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toremi_cli import console
from toremi_cli.corpus.counts import Counts, count_samples
from toremi_cli.corpus.cut import forget_progress, piece_hashes, piece_path, read_progress, write_rows
from toremi_cli.corpus.first_seen import mark_first
from toremi_cli.corpus.parts import Parts
from toremi_cli.engine import run_shards
from toremi_cli.errors import TableError
from toremi_cli.files import atomic_file, read_json, write_json
from toremi_cli.schemas import SAMPLES
from toremi_cli.stage import StageFolder


@dataclass(frozen=True)
class _Shard:
    """A shard to be: the piece it is made of, and whether some of its rows don't stay."""

    part: int
    piece: int
    counts: Counts
    is_cut_down: bool


def join_parts(parts: Parts, stage: StageFolder, *, engine: str = "local", workers: int = 1) -> tuple[int, Counts]:
    """Make shards of all pieces; return how many, and what all of them hold.

    Raises:
        TableError: a shard that was made of a piece is damaged.
    """
    shards, counts = _shards(parts, engine, workers)
    pending = []
    for index, shard in enumerate(shards):
        if shard.is_cut_down:
            if not (stage.is_shard_done(index) and _counts_path(parts, index).exists()):
                pending.append(index)
        elif not stage.is_shard_done(index):
            piece = piece_path(parts, shard.part, shard.piece)
            if not piece.exists():
                forget_progress(parts, shard.part)
                raise TableError(f"{stage.path(index)}: is damaged; run the same command again to make it anew")
            piece.replace(stage.path(index))
    if pending:
        work = partial(cut_down_shard, parts, stage)
        with console.progress("dropping repeated texts", total=len(pending), unit="shards") as bar:
            for _ in run_shards(work, pending, engine=engine, workers=workers):
                bar.advance()
    for index, shard in enumerate(shards):
        counts.merge(Counts(read_json(_counts_path(parts, index))) if shard.is_cut_down else shard.counts)
    return len(shards), counts


def cut_down_shard(parts: Parts, stage: StageFolder, index: int) -> None:
    """Write shard `index` of its piece's rows that stay, and what they count."""
    origin = read_json(_origin_path(parts, index))
    is_new = np.load(_kept_path(parts, index), allow_pickle=False)
    piece = pq.read_table(piece_path(parts, origin["part"], origin["piece"]), schema=SAMPLES.arrow_schema())
    table = piece.filter(pa.array(is_new))
    with stage.writer(index) as writer:
        write_rows(writer, table)
    counts = count_samples(table)
    for source, before in Counts(origin["counts"]).sources.items():
        ours = counts.of(source)
        ours.duplicates = before.duplicates + before.samples - ours.samples
    write_json(_counts_path(parts, index), counts.as_record())


def _piece_hashes(parts: Parts, pieces: Sequence[tuple[int, int]], number: int) -> np.ndarray:
    return piece_hashes(parts, *pieces[number])


def _marks(parts: Parts, engine: str, workers: int) -> Iterator[np.ndarray]:
    """Of each piece that has samples, which of their texts stand in no earlier one: (num_samples,) bool."""
    pieces, sizes = [], []
    for part in range(parts.num_parts):
        for number, piece in enumerate(read_progress(parts, part)["pieces"]):
            if piece["num_samples"]:
                pieces.append((part, number))
                sizes.append(piece["num_samples"])
    hashes_of = partial(_piece_hashes, parts, pieces)
    first = mark_first(hashes_of, sizes, parts.root / "samples", engine=engine, workers=workers)
    return map(first.marks_of, range(len(pieces)))


def _shards(parts: Parts, engine: str, workers: int) -> tuple[list[_Shard], Counts]:
    """The shards to be, in order, and the counts of pieces of which nothing stays."""
    shards: list[_Shard] = []
    without = Counts()
    marks = _marks(parts, engine, workers) if parts.num_parts > 1 else None  # within a part they have been dropped
    for part in range(parts.num_parts):
        for number, piece in enumerate(read_progress(parts, part)["pieces"]):
            counts = Counts(piece["counts"])
            if not piece["num_samples"]:
                without.merge(counts)
                continue
            is_cut_down = False
            if marks is not None:
                is_new = next(marks)
                if not is_new.any():
                    without.merge(_all_repeated(counts))
                    continue
                is_cut_down = not is_new.all()
                if is_cut_down:
                    _note(parts, len(shards), is_new, {"part": part, "piece": number, "counts": piece["counts"]})
            shards.append(_Shard(part, number, counts, is_cut_down))
    return shards, without


def _note(parts: Parts, index: int, is_new: np.ndarray, origin: dict[str, Any]) -> None:
    """Leave word for whoever writes shard `index`."""
    with atomic_file(_kept_path(parts, index)) as path, path.open("wb") as file:
        np.save(file, is_new, allow_pickle=False)
    write_json(_origin_path(parts, index), origin)


def _all_repeated(counts: Counts) -> Counts:
    repeated = Counts()
    for source, before in counts.sources.items():
        repeated.of(source).duplicates = before.duplicates + before.samples
    return repeated


def _origin_path(parts: Parts, index: int) -> Path:
    return parts.root / f"origin-{index:05d}.json"


def _kept_path(parts: Parts, index: int) -> Path:
    return parts.root / f"kept-{index:05d}.npy"


def _counts_path(parts: Parts, index: int) -> Path:
    return parts.root / f"counts-{index:05d}.json"
