"""A corpus in parts: files that follow one another, or a range of a huge one, each worked on by one process.

A part has a folder of its own and depends on its files alone, so it can be read on any core of any machine, and what
comes out doesn't depend on which. What concerns them all (repeated ids, duplicates, the held-out split) is settled
between them by hashes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from toremi_cli.corpus.byte_ranges import can_be_cut, cut_file
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.listing import CorpusFile, Paths
from toremi_cli.corpus.readers import Corpus
from toremi_cli.engine import run_shards
from toremi_cli.files import find_json, read_json, write_json
from toremi_cli.provenance import Provenance

FOLDER = "_parts"
FILES = "files.json"
VERSION = 4
"""Of what is kept about a part: with another one, an interrupted run begins again."""
PART_BYTES = 64_000_000
"""Text in a part, about."""
MOST_PARTS = 16_384
"""In a larger corpus the parts are larger."""
EXPANSION = 4
"""How many bytes of text a byte of a compressed file holds, about."""

BYTES_PER_SECOND = 1.5e6
"""Of text that one core reads, cuts and counts (docs/scale.md)."""
SLOW_BYTES = 5e9
"""Text in a file for which one process takes an hour."""

Advance = Callable[[int], None]
"""Told how many more documents are done."""
PartWork = Callable[..., None]
"""What is done with a part: called with its number and `advance`. Has to be picklable."""


@dataclass(frozen=True)
class Parts:
    """The parts of a corpus, as a process anywhere finds them.

    `root` holds a folder for each; `corpus` is the corpus' location (or locations), `provenance` that of the
    table they become.
    """

    root: Path
    corpus: Paths
    config: CorpusConfig
    provenance: Provenance
    num_parts: int

    def folder(self, index: int) -> Path:
        """Where everything about a part stands."""
        return self.root / f"{index:05d}"

    def corpus_of(self, index: int) -> Corpus:
        """A part's files, as a corpus."""
        files = read_json(self.folder(index) / FILES)
        return Corpus(self.corpus, self.config, [CorpusFile(**file) for file in files])

    def run(
        self,
        work: PartWork,
        pending: Sequence[int],
        *,
        advance: Advance,
        documents_of: Callable[[int], int],
        engine: str,
        workers: int,
    ) -> None:
        """Do `work` for the parts of these numbers.

        Where this process does it, `advance` hears of documents as they are done; of parts that others do,
        `documents_of` tells how many one has when it is finished.
        """
        alone = engine == "local" and (workers == 1 or len(pending) < 2)
        doing = partial(work, advance=advance) if alone else partial(_work_among_others, work)
        for index in run_shards(doing, pending, engine=engine, workers=workers):
            if not alone:
                advance(documents_of(index))


def text_bytes(file: CorpusFile) -> int:
    """Bytes of text in a file, about."""
    return file.size * (EXPANSION if file.compression or file.format == "parquet" else 1)


def note_of_slow_file(files: Sequence[CorpusFile], workers: int) -> str | None:
    """What to say of a file that keeps one process busy long after the others; None where there is none."""
    largest = max(files, key=lambda file: 0 if can_be_cut(file) else text_bytes(file))
    size, all_bytes = text_bytes(largest), sum(map(text_bytes, files))
    if can_be_cut(largest) or size < SLOW_BYTES or size <= 2 * all_bytes / workers:
        return None
    packed = f" ({largest.compression})" if largest.compression else ""
    return (
        f"{largest.shown}{packed}: {size / 1e9:,.0f} GB of text in one file, which one process reads in about "
        f"{size / BYTES_PER_SECOND / 3600:,.1f} hours, long after the other {workers - 1} have ended; split it"
        + (", or unpack it" if can_be_cut(replace(largest, compression=None)) else "")
    )


def part_bytes(files: Sequence[CorpusFile]) -> int:
    """Bytes of text in a part, about."""
    return max(PART_BYTES, sum(map(text_bytes, files)) // MOST_PARTS)


def part_files(files: Sequence[CorpusFile]) -> list[list[CorpusFile]]:
    """Files in their order, grouped into parts."""
    sizes = [text_bytes(file) for file in files]
    least = part_bytes(files)
    parts: list[list[CorpusFile]] = [[]]
    filled = 0
    for file, size in zip(files, sizes, strict=True):
        if parts[-1] and filled + size > least:
            parts.append([])
            filled = 0
        parts[-1].append(file)
        filled += size
    return parts


def lay_out_parts(samples: Path, corpus: Corpus, location: Paths, provenance: Provenance) -> Parts:
    """Make the parts' folders, or find those of an interrupted run of the same plan."""
    root = samples / FOLDER
    plan = root / "plan.json"
    files, filesystem = corpus.listing.files, corpus.listing.filesystem
    size = part_bytes(files)
    grouped = part_files([piece for file in files for piece in cut_file(filesystem, file, size)])
    parts = Parts(root.resolve(), location, corpus.config, provenance, len(grouped))
    wanted = {"fingerprint": provenance.fingerprint, "num_parts": len(grouped), "version": VERSION}
    if find_json(plan) != wanted:
        shutil.rmtree(root, ignore_errors=True)
        for index, files in enumerate(grouped):
            write_json(parts.folder(index) / FILES, [asdict(file) for file in files])
        write_json(plan, wanted)
    return parts


def _work_among_others(work: PartWork, index: int) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the other cores have parts of their own
    work(index, advance=lambda count: None)
