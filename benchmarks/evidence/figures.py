"""Figures of the grid: learning curves, and how the noisy topics' weight went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from benchmarks.evidence.results import BASELINE, Result, baseline_label

from toremi_cli.report.style import COLOURS, GREY, INK, RC, label_ends

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

EMPHASISED = (BASELINE, "stratified", "odm", "ado", "toremi-2", "toremi", "doremi")
FAR = 1.08
"""A policy that ends above this times the baseline is named, not drawn: it would flatten all others."""


def write_curves(groups: Mapping[str, Sequence[Result]], path: Path) -> None:
    """Macro bits per byte of the held-out text over the tokens from a quarter of the run on, mean over seeds."""
    means = {
        policy: np.mean([[value for _, value in r.headline.curve] for r in own], axis=0)
        for policy, own in groups.items()
    }
    baseline = baseline_label(list(means))
    highest = FAR * means[baseline][-1] if baseline in means else np.inf
    far = [policy for policy, values in means.items() if values[-1] > highest]
    with plt.rc_context(RC):
        figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        ends = []
        for policy in (policy for policy in means if policy not in far):
            tokens = np.array([point[0] for point in groups[policy][0].headline.curve]) / 1e6
            ends.append(_draw(axes, policy, tokens, means[policy]))
        axes.set(ylabel="bits per byte", title="Macro average over the (clean) sources, held-out text")
        axes.set(xlabel="million tokens" + (f"   (far above, not drawn: {', '.join(far)})" if far else ""))
        _finish(figure, axes, ends, path)


def write_noise_courses(groups: Mapping[str, Sequence[Result]], path: Path) -> None:
    """Mean weight of the noisy topics over the clean ones' by step, mean over seeds."""
    with plt.rc_context(RC):
        figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        ends = []
        for policy, results in groups.items():
            courses = [r.noise.course for r in results if r.noise and r.noise.course]
            if courses:
                steps = np.array([point[0] for point in courses[0]])
                values = np.mean([[point[2] / point[3] for point in course] for course in courses], axis=0)
                ends.append(_draw(axes, policy, steps, values))
        axes.set(
            xlabel="step", ylabel="ratio", yscale="log", title="Weight of the noisy topics over that of the others"
        )
        _finish(figure, axes, ends, path)


def _draw(axes: Axes, policy: str, x: np.ndarray, y: np.ndarray) -> tuple[float, str, str]:
    known = policy in EMPHASISED
    colour = COLOURS[EMPHASISED.index(policy)] if known else GREY
    axes.plot(x, y, color=colour, zorder=3 if known else 2)
    return float(y[-1]), policy, colour if known else INK


def _finish(figure: plt.Figure, axes: Axes, ends: list[tuple[float, str, str]], path: Path) -> None:
    figure.draw_without_rendering()
    label_ends(axes, ends)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
