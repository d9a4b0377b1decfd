"""What counts: bits per byte over the sources that are clean."""

from __future__ import annotations

from pathlib import Path

from benchmarks.evidence.corpora import workdir_of
from benchmarks.evidence.grid import Cell

from toremi_cli.evaluate.bootstrap import MACRO, MICRO, DocumentScores, bits_per_byte
from toremi_cli.evaluate.noise import Truth, read_truth
from toremi_cli.layout import Workdir
from toremi_cli.runs.run import Run, find_runs

NOISY_SOURCE = 0.5
"""Share of its training samples from which a source is no clean domain."""


def run_of(cell: Cell, out: Path) -> tuple[Run, Truth | None]:
    """A cell's run, and what of its training text is noise."""
    workdir = Workdir(workdir_of(out, cell.arm.corpus))
    (run,) = find_runs((cell.name,), workdir)
    return run, read_truth(Path(run.config["annotated"]), run, workdir) if cell.arm.noise else None


def noisy_sources(truth: Truth | None) -> set[str]:
    """Sources whose training text is noise for the most part."""
    return {source for source, share in truth.sources.items() if share >= NOISY_SOURCE} if truth else set()


def clean_bits(scores: DocumentScores, noisy: set[str]) -> dict[str, float]:
    """Bits per byte by source; 'macro' and 'micro' leave the noisy sources out."""
    clean = bits_per_byte(scores.only([source for source in scores.domains if source not in noisy]))
    return {**bits_per_byte(scores), MACRO: clean[MACRO], MICRO: clean[MICRO]}
