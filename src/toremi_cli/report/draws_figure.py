"""The figure that a paper or a README opens with: what runs drew, as areas, and their learning curves."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from toremi_cli.errors import TableError
from toremi_cli.report.digest import Digest, Report
from toremi_cli.report.draws import Draws
from toremi_cli.report.front import layers
from toremi_cli.report.numbers import compact
from toremi_cli.report.page_data import CROPPED_START
from toremi_cli.report.style import COLOURS, GREY, INK, shortened
from toremi_cli.schemas import MACRO

SIZE_INCHES = (10.0, 3.2)
TONES = {"less": COLOURS[6], "more": COLOURS[2], "": GREY}
"""Of the areas; the curves have the colours of runs."""
LEAST_LABELLED = 0.12
"""Share of the height from which an area has room for its name."""


def draws_figure(report: Report) -> Figure:
    """The baseline's draws, those of the first run beside it, and the macro curves of all.

    Raises:
        TableError: no two runs that recorded the draws of the same topics.
    """
    digest = next((digest for digest in report.digests if digest.moved), None)
    if digest is None or digest.draws is None or digest.baseline_draws is None:
        names = ", ".join(history.name for history in report.histories)
        raise TableError(f"{names}: no two runs that drew the same topics by different shares: nothing to draw")
    figure = Figure(figsize=SIZE_INCHES)
    axes = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.045, right=0.99, bottom=0.15, top=0.91, wspace=0.2)
    _areas(axes[0], digest, digest.baseline_draws, digest.baseline.name)
    _areas(axes[1], digest, digest.draws, digest.group.name)
    _curves(axes[2], report)
    return figure


def _areas(axes: Axes, digest: Digest, draws: Draws, name: str) -> None:
    parts = layers(digest, draws)
    colours = [_shade(tone, number) for number, (_, tone, _) in enumerate(parts)]
    axes.stackplot(draws.steps, *(100 * y for _, _, y in parts), colors=colours, lw=0.3, edgecolor="white")
    axes.set_title(f"{shortened(name)}: topics in what it drew, %", size=8.5, weight="normal")
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(compact)
    axes.margins(0)
    axes.grid(False)
    middle, below = len(draws.steps) // 2, 0.0
    for tone, word in (("less", "drawn less"), ("", "other topics"), ("more", "drawn more")):
        height = sum(y[middle] for _, own, y in parts if own == tone)
        if height > LEAST_LABELLED:
            place = draws.steps[middle], 100 * (below + height / 2)
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
            axes.text(*place, word, ha="center", va="center", color=INK, bbox=box)
        below += height


def _shade(tone: str, number: int) -> tuple[float, float, float]:
    """Neighbours differ a little, so that each can be seen."""
    colour, white = np.array(to_rgb(TONES[tone])), np.ones(3)
    part = 0.18 * (number % 3)
    red, green, blue = (1 - part) * colour + part * white
    return float(red), float(green), float(blue)


def _curves(axes: Axes, report: Report) -> None:
    late = []
    for group in report.groups:
        band = group.curve(MACRO)
        if band is None:
            continue
        colour = COLOURS[group.colour]
        axes.plot(band.steps, band.mean, color=colour, label=shortened(group.name))
        if len(group.histories) > 1:
            axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.15, lw=0)
        late += band.mean[band.steps >= CROPPED_START * band.steps[-1]].tolist()
    if late:
        room = 0.08 * (max(late) - min(late)) or 0.1
        axes.set_ylim(min(late) - room, max(late) + room)
        axes.legend(frameon=False)
    axes.set_title("held-out bits per byte, mean over the sources", size=8.5, weight="normal")
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(compact)
