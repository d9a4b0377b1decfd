"""What each run came to beside the baseline of the same seed: a CSV file, a run a row, and the figure of such a file.

python -m benchmarks.evidence.beside docs/tables/beside-uniform.csv docs/tables/beside-uniform.svg
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import matplotlib as mpl
import numpy as np
from benchmarks.evidence.corpora import UNSEEN
from benchmarks.evidence.grid import CLEAN, JUNK, PRESETS, WITHOUT, Preset
from benchmarks.evidence.results import Measured, Result, baseline_label, saved
from benchmarks.evidence.summary import Run, read_runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toremi_cli.evaluate.intervals import paired_differences, surely_different
from toremi_cli.report.figures import write_image
from toremi_cli.report.style import COLOURS, RC

DRAWN = ((JUNK, "real junk, 23% of the text"), (CLEAN, "clean text"))
"""Arms of the figure, and what they are called there."""
FAR = 0.25
"""A policy that is so much worse on average is named, not drawn: it would flatten all others."""


def write_beside(results: list[Result], path: Path, preset: Preset, annotation: str) -> None:
    """Write what each run came to beside the baseline at the same seed, as CSV: what docs/results.md shows.

    Rows of several grids may be put into one file: they say their model and what their annotation is called.
    """
    head = {"annotation": annotation, "model": preset.model_name}
    baseline = baseline_label([result.cell.label for result in results])
    base = {(r.cell.arm, r.cell.seed): r for r in results if r.cell.label == baseline}
    pairs = ((r, base.get((r.cell.arm, r.cell.seed))) for r in results if r.cell.label != baseline)
    rows = []
    for result, partner in pairs:
        if partner is not None:
            rate = {"rate": "searched" if preset.tune and not result.cell.rate else "given"}
            rows.append({**head, **beside(result, partner), **rate})
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def beside(result: Result, base: Result) -> dict[str, object]:
    """A run beside the baseline's of the same arm and seed; AUROC and weight are empty where nothing is noise.

    The worst source is the clean one that loses most, as a share of the baseline's bits per byte, on the text that is
    reported first. Its interval (95%) is that of its own documents: that it was picked is not made up for. Surely worse
    are the sources that lose for certain, corrected for their number, as `toremi compare` marks them.
    """
    ours, theirs, noise = result.headline, base.headline, result.noise
    test, base_test = result.test.final, base.test.final
    differences = paired_differences(ours.scores, theirs.scores)
    worst = _worst(result, ours, theirs)
    loss, told_apart = differences[worst], surely_different(differences)
    surely_worse = sorted(d for d in told_apart - result.noisy_sources if d in theirs.scores.domains)
    return {
        "arm": result.cell.arm.name,
        "policy": result.cell.policy,
        "seed": result.cell.seed,
        "learning_rate": result.learning_rate,
        "uniform_learning_rate": base.learning_rate,
        "tokens": result.num_tokens,
        "text": "test" if result.unseen is None else UNSEEN,
        "uniform": round(theirs.final["macro"], 3),
        "difference": round(ours.final["macro"] - theirs.final["macro"], 3),
        "saved": round(result.saved, 2),
        "worst_source": round(loss.value / theirs.final[worst], 3),
        "worst_low": round(loss.low / theirs.final[worst], 3),
        "worst_high": round(loss.high / theirs.final[worst], 3),
        "worst_name": worst,
        "surely_worse": " ".join(name for name in surely_worse if differences[name].value > 0),
        "test_difference": round(test["macro"] - base_test["macro"], 3),
        "test_micro_difference": round(test["micro"] - base_test["micro"], 3),
        "test_saved": round(saved(result, base, attrgetter("test")), 2),
        "test_worst_source": round(_change(_worst(result, result.test, base.test), result.test, base.test), 3),
        "auroc": "" if noise is None else round(noise.auroc, 2),
        "noise_taken": "" if noise is None else round(noise.noise_taken, 2),
    }


def _worst(result: Result, ours: Measured, theirs: Measured) -> str:
    """The clean source that loses most."""
    clean = set(ours.scores.domains) - result.noisy_sources
    return max(sorted(clean), key=lambda name: _change(name, ours, theirs))


def _change(name: str, ours: Measured, theirs: Measured) -> float:
    return ours.final[name] / theirs.final[name] - 1


def draw(rows: Sequence[Run]) -> Figure:
    """Each run's difference to the baseline as a dot, by policy; policies in the order of what they gain with junk."""
    by_arm: dict[str, dict[str, list[float]]] = {arm.name: {} for arm, _ in DRAWN}
    for row in rows:
        if row["arm"] in by_arm and not row["policy"].startswith(f"{WITHOUT}junk_"):
            by_arm[row["arm"]].setdefault(row["policy"], []).append(float(row["difference"]))
    first, second = (by_arm[arm.name] for arm, _ in DRAWN)
    order = sorted({*first, *second}, key=lambda p: -np.mean(first.get(p) or second[p]))
    far = [policy for policy in order if max(np.mean(arm.get(policy) or 0) for arm in (first, second)) > FAR]
    order = [policy for policy in order if policy not in far]
    with mpl.rc_context(RC):
        figure = Figure(figsize=(7.2, 0.9 + 0.2 * len(order)), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(1, len(DRAWN), sharex=True, sharey=True)
        for axes, (arm, title) in zip(panels, DRAWN, strict=True):
            axes.axvline(0, color="#888888", linewidth=0.8)
            for place, policy in enumerate(order):
                values = by_arm[arm.name].get(policy, [])
                colour = COLOURS[1] if policy == "toremi" else COLOURS[2] if policy.startswith(WITHOUT) else COLOURS[0]
                axes.plot(values, [place] * len(values), "o", color=colour, markersize=4.5, alpha=0.8)
            axes.set(title=title, yticks=range(len(order)), yticklabels=[_called(p) for p in order])
            axes.set(ylim=(-0.6, len(order) - 0.4))
        absent = f" (far right, not drawn: {', '.join(far)})" if far else ""
        figure.supxlabel(f"bits per byte of unseen documents, less uniform's: left is better{absent}", fontsize=8.5)
    return figure


def _called(policy: str) -> str:
    return "all junk dropped by label" if policy == f"{WITHOUT}junk" else policy


if __name__ == "__main__":
    size = PRESETS["small"]
    small = (size.model_name, str(size.num_tokens))
    runs = [run for run in read_runs(Path(sys.argv[1])) if (run["model"], run["tokens"]) == small]
    write_image(draw(runs), Path(sys.argv[2]), Path(sys.argv[2]).suffix[1:])
