"""Run the grid, or go on with it, and write its tables and figures.

    python -m benchmarks.evidence --preset quick
    python -m benchmarks.evidence --preset cpu --domains DIR --junk DIR

Everything lies under --out; a run that is there is not run again, so that an interrupted grid goes on where it stopped.
DIR is a folder of .jsonl or .jsonl.zst files with `text`, one a source. --until stops starting new runs after so many
minutes; what is finished is reported.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.evidence.beside import write_beside
from benchmarks.evidence.corpora import prepare, unseen_text
from benchmarks.evidence.grid import PRESETS, Arm, Preset, cells
from benchmarks.evidence.rates import chosen_rate
from benchmarks.evidence.report import write_report
from benchmarks.evidence.results import collect, write_results
from benchmarks.evidence.runs import measure, train
from benchmarks.evidence.tuning import tune


def main() -> None:
    """Prepare, tune, run, report."""
    options = parse()
    preset = PRESETS[options.preset]
    if options.policies:
        preset = replace(preset, policies=tuple(options.policies.split(",")), ablations=(), bounds=())
    if options.arms:
        preset = replace(preset, arms=tuple(arm for arm in preset.arms if arm.name in options.arms.split(",")))
    if options.seeds:
        preset = replace(preset, seeds=tuple(map(int, options.seeds.split(","))))
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.only_report:
        run_grid(preset, options.out, options.domains, options.junk, time.monotonic() + 60 * options.until)
    results = collect(preset, options.out)
    write_results(results, options.out / "results.parquet")
    write_beside(results, options.out / "beside-uniform.csv", preset, options.annotation)
    write_report(options.preset, preset, results, options.out, options.report or options.out / "evidence.md")


def run_grid(preset: Preset, out: Path, domains: Path | None, junk: Path | None, deadline: float) -> None:
    """Train and measure every cell that isn't done, until the deadline."""
    tables: dict[Arm, Path] = {}

    def table_of(arm: Arm) -> Path:
        if arm not in tables:
            tables[arm] = prepare(arm, preset, out, domains, junk)
        return tables[arm]

    for cell in cells(preset):
        if time.monotonic() > deadline:
            return
        if preset.tune and not cell.rate:
            tune(cell.arm.tuned_on, cell.tuned_as, preset, out, table_of(cell.arm.tuned_on))
        rate = cell.rate or chosen_rate(cell.arm, cell.tuned_as, out)
        train(cell, preset, out, table_of(cell.arm), rate)
        has_unseen = cell.arm.corpus in ("mixed", "junk") and domains is not None
        measure(cell, preset, out, unseen_text(cell.arm.corpus, domains, out) if has_unseen else None)
        print(f"{cell.name}: done", flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=tuple(PRESETS), default="quick")
    parser.add_argument("--out", type=Path, default=Path("evidence-out"))
    parser.add_argument("--domains", type=Path, help="folder of the mixed corpus' sources")
    parser.add_argument("--junk", type=Path, help="folder of real junk, for the junk arm: JSONL files, one a kind")
    parser.add_argument(
        "--policies",
        help="only these policies and ablations, separated by commas; POLICY@0.5: at half of the preset's rate",
    )
    parser.add_argument("--arms", help="only these, separated by commas; names as in the runs' folders")
    parser.add_argument("--seeds", help="only these, separated by commas")
    parser.add_argument("--until", type=float, default=1e9, metavar="MINUTES", help="start no run after that")
    parser.add_argument(
        "--annotation", default="", metavar="NAME", help="what its annotation is called in the CSV file"
    )
    parser.add_argument("--only-report", action="store_true", help="run nothing; report what is there")
    parser.add_argument("--report", type=Path, help="Markdown file to write; default: under --out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
