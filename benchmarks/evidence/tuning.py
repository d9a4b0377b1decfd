"""Each policy's learning rate: the best on the validation split, of a seed that is not reported.

The preset's rate, its double and its half are tried for every policy, then the best is doubled or halved for as long as
that makes the macro bits per byte of the clean sources lower, so that a worse rate lies on either side of the optimum.
What was tried stands in the runs' folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.evidence.corpora import workdir_of
from benchmarks.evidence.grid import TUNING_SEED, Arm, Cell, Preset
from benchmarks.evidence.rates import record_rate, tried_rates
from benchmarks.evidence.runs import train
from benchmarks.evidence.scores import clean_bits, noisy_sources, run_of
from benchmarks.evidence.shell import toremi

from toremi_cli.evaluate.run_facts import read_facts
from toremi_cli.schemas import VALIDATION

FIRST = (1.0, 2.0, 0.5)
"""Tried whatever the others come to: with noise, values are not convex in the rate (0.004 may be worse than 0.002 and
0.008, since a run may get stuck there by chance), and a search that only climbs would stop at either."""


def next_rate(tried: Mapping[float, float]) -> float | None:
    """The factor to try next, given the values of those tried; None once there is a worse one on either side."""
    best = min(tried, key=lambda rate: tried[rate]) if tried else 1.0
    return next((rate for rate in (*FIRST, 2 * best, best / 2) if rate not in tried), None)


def tune(arm: Arm, policy: str, preset: Preset, out: Path, annotated: Path) -> None:
    """Try rates for a policy until its own is found; nothing where it is found already."""
    while (rate := next_rate(tried_rates(arm, policy, out))) is not None:
        cell = Cell(arm, policy, TUNING_SEED, rate)
        folder = train(cell, preset, out, annotated, rate)
        workdir = workdir_of(out, arm.corpus)
        toremi("eval", cell.name, "--workdir", workdir, "--split", VALIDATION, "--topics", "none")
        run, truth = run_of(cell, out)
        final = read_facts(run, VALIDATION).final
        assert final is not None
        value = clean_bits(final, noisy_sources(truth))["macro"]
        record_rate(folder, rate, value)
        print(f"{cell.name}: {value:.4f}", flush=True)
