"""Figures of runs for a paper or a first look: weights by topic, topic losses, learning curves by domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from toremi_cli.errors import TableError, UsageError
from toremi_cli.files import atomic_file
from toremi_cli.report.digest import Report
from toremi_cli.report.draws_figure import draws_figure
from toremi_cli.report.numbers import compact
from toremi_cli.report.page_data import CROPPED_START
from toremi_cli.report.seed_groups import SeedGroup, chosen_topics, seed_groups
from toremi_cli.report.style import COLOURS, GREY, INK, RC, label_ends, label_inches, shortened
from toremi_cli.runs.history import CURVE, History
from toremi_cli.schemas import MACRO

KINDS = ("overview", "weights", "curves")
FORMATS = ("png", "svg", "pdf")
WIDTH_INCHES = 10.0
PANEL_INCHES = 3.1
CURVE_INCHES = 1.75
CURVES_A_ROW = 4
LEFT_INCHES = 0.55
"""Beside a panel of topics, for the numbers of its axis."""
LABEL_GAP_INCHES = 0.22
"""Between a panel of topics and the names beside it, and after these."""
LINE_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1, 1, 1)))


def save_figure(histories: Sequence[History], path: Path, kind: str = "overview", file_format: str = "png") -> None:
    """Draw the runs and write one image, whole or not at all.

    Args:
        histories: the runs, at least one.
        path: where the image goes.
        kind: 'weights' (weights and losses by topic, a row a run), 'curves' (held-out loss by domain, all runs in one
            panel), 'overview' (both).
        file_format: 'png', 'svg' or 'pdf'.

    Raises:
        UsageError: unknown kind or format.
        TableError: the runs hold nothing of that kind.
    """
    if kind not in KINDS:
        raise UsageError(f"--figure {kind}: expected one of draws, {', '.join(KINDS)}")
    check_format(file_format)
    with mpl.rc_context(RC):
        write_image(draw(histories, kind), path, file_format)


def save_draws(report: Report, path: Path, file_format: str) -> None:
    """Draw what runs drew, and their learning curves; `save_figure` of kind 'draws'.

    Raises:
        UsageError: unknown format.
        TableError: the runs recorded no topics.
    """
    check_format(file_format)
    with mpl.rc_context(RC):
        write_image(draws_figure(report), path, file_format)


def check_format(file_format: str) -> None:
    """Refuse a format that is none of FORMATS.

    Raises:
        UsageError: it is another one.
    """
    if file_format not in FORMATS:
        raise UsageError(f"no format '{file_format}': --format and the ending of -o may be html, {', '.join(FORMATS)}")


def write_image(figure: Figure, path: Path, file_format: str) -> None:
    """Write a figure, whole or not at all, the same bytes each time."""
    metadata = {"Date": None} if file_format == "svg" else {"CreationDate": None} if file_format == "pdf" else None
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=file_format, facecolor="white", metadata=metadata)


def draw(histories: Sequence[History], kind: str = "overview") -> Figure:
    """The figure, drawn with the style in force.

    Raises:
        TableError: nothing to show.
    """
    groups = seed_groups(histories)
    weighted = [g for g in groups if g.topics is not None] if kind != "curves" else []
    # A run whose weights never move has nothing to show in them, unless it is alone.
    weighted = [g for g in weighted if g.topics and not g.topics.is_constant] or weighted[:1]
    domains = sorted({d for h in histories for d in h.domains(CURVE)}) if kind != "weights" else []
    if not weighted and not domains:
        raise TableError(f"{', '.join(h.name for h in histories)}: recorded nothing that figure '{kind}' shows")
    panels = [MACRO, *domains] if domains else []
    num_rows = math.ceil(len(panels) / CURVES_A_ROW)
    heights = [PANEL_INCHES] * len(weighted) + ([CURVE_INCHES * num_rows + 0.7] if panels else [])
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    chosen = chosen_topics(weighted)
    for part, group in zip(parts, weighted, strict=False):
        _draw_topics(part, group, dict(zip(chosen[group.name], COLOURS, strict=False)))
    if panels:
        _draw_curves(parts[-1], groups, panels, num_rows)
    return figure


def _draw_topics(part: SubFigure, group: SeedGroup, colours: dict[str, str]) -> None:
    """Weights on the left, losses on the right, with the same colours; names have the room that the longest needs."""
    courses = group.topics
    assert courses is not None
    axes = part.subplots(1, 2)
    names = max(map(label_inches, colours), default=0.0) + LABEL_GAP_INCHES
    panel = (WIDTH_INCHES - 2 * (LEFT_INCHES + names)) / 2
    part.subplots_adjust(
        left=LEFT_INCHES / WIDTH_INCHES,
        right=1 - names / WIDTH_INCHES,
        bottom=0.16,
        top=0.82,
        wspace=(names + LEFT_INCHES) / panel,
    )
    named = f" ({len(colours)} of {len(courses.topics)} named)" if len(colours) < len(courses.topics) else ""
    band = ", lines are means, bands the range" if len(group.histories) > 1 else ""
    part.text(LEFT_INCHES / WIDTH_INCHES, 0.97, f"{group.title}{band}", weight="bold", size=9.5, va="top")
    titles = {"weight": f"weight of each topic{named}", "loss": "loss of each topic, nats a token"}
    for place, (quantity, title) in zip(axes, titles.items(), strict=True):
        _draw_lines(place, group, quantity, colours)
        place.set_title(title, size=8.5, weight="normal")
        place.set_xlabel("step")
    axes[0].axhline(1.0, color=INK, lw=0.7, ls=(0, (2, 3)), zorder=1)


def _draw_lines(axes: Axes, group: SeedGroup, quantity: str, colours: dict[str, str]) -> None:
    courses = group.topics
    assert courses is not None
    values, (lows, highs) = getattr(courses, quantity), group.topic_band(quantity)
    marker = "o" if len(courses.steps) < 4 else ""
    ends = []
    for index, topic in enumerate(courses.topics):
        colour = colours.get(topic, GREY)
        seen = ~np.isnan(values[:, index])
        if not seen.any():
            continue
        front = topic in colours
        axes.plot(
            courses.steps[seen],
            values[seen, index],
            color=colour,
            lw=1.5 if front else 0.7,
            marker=marker,
            ms=3,
            zorder=3 if front else 2,
        )
        if front:
            ends.append((values[seen, index][-1], topic, colour))
            if len(group.histories) > 1:
                _draw_band(axes, courses.steps[seen], lows[seen, index], highs[seen, index], colour)
    if quantity == "weight" and courses.is_wide:  # updates multiply: 0.5 is as far from 1 as 2
        axes.set_yscale("log", subs=(1, 2, 5))
        axes.set_ylim(bottom=max(axes.get_ylim()[0], courses.least_shown))
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(compact)
        axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.0, y=0.06)
    axes.xaxis.set_major_formatter(compact)
    if courses.switch_step is not None and courses.switch_step > courses.steps[0]:
        _mark_switch(axes, courses.switch_step)
    label_ends(axes, ends)


def _draw_band(axes: Axes, steps: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0, zorder=1.5)


def _mark_switch(axes: Axes, step: int) -> None:
    axes.axvline(step, color=INK, lw=0.8, ls="--", zorder=1)
    axes.text(
        step,
        0.985,
        " stage 2",
        transform=axes.get_xaxis_transform(),
        va="top",
        fontsize=7.5,
        color=INK,
        zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
    )


def _draw_curves(part: SubFigure, groups: Sequence[SeedGroup], panels: Sequence[str], num_rows: int) -> None:
    """A small panel for each domain with one line a run or policy; the first is the macro average and names them."""
    grid = part.subplots(num_rows, CURVES_A_ROW, squeeze=False, sharex=True).ravel()
    height = part.bbox.height / part.figure.dpi
    part.subplots_adjust(left=0.055, right=0.985, bottom=0.45 / height, top=1 - 0.62 / height, wspace=0.27, hspace=0.42)
    band = "; mean and range of the seeds" if any(len(g.histories) > 1 for g in groups) else ""
    part.text(0.055, 1 - 0.12 / height, f"held-out bits per byte by domain{band}", weight="bold", size=9.5, va="top")
    handles: list[Line2D] = []
    for axes, domain in zip(grid, panels, strict=False):
        lines = [_draw_curve(axes, group, domain) for group in groups]
        handles = handles or lines
        axes.set_title("macro average" if domain == MACRO else shortened(domain), size=8.5, weight="normal")
        axes.margins(x=0.02, y=0.08)
        _crop_start(axes, lines)
        axes.xaxis.set_major_formatter(compact)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for index in range(len(panels)):
        if index + CURVES_A_ROW >= len(panels):
            grid[index].tick_params(labelbottom=True)
            grid[index].set_xlabel("step")
    names = [shortened(group.name) for group in groups]
    part.legend(
        handles,
        names,
        loc="upper right",
        bbox_to_anchor=(0.99, 1 - 0.02 / height),
        ncols=min(len(names), 5),
        frameon=False,
        fontsize=8.5,
        handlelength=2.2,
    )


def _draw_curve(axes: Axes, group: SeedGroup, domain: str) -> Line2D:
    band = group.curve(domain)
    steps, values = (band.steps, band.mean) if band else (np.zeros(0), np.zeros(0))
    colour, style = COLOURS[group.colour], LINE_STYLES[(group.colour + group.style) % len(LINE_STYLES)]
    if band and len(group.histories) > 1:
        _draw_band(axes, band.steps, band.low, band.high, colour)
    (line,) = axes.plot(steps, values, color=colour, ls=style, lw=1.4, marker="o" if len(steps) == 1 else "", ms=3)
    return line


def _crop_start(axes: Axes, lines: Sequence[Line2D]) -> None:
    """Let the steep fall of a run's first steps leave the panel, so that the runs can be told apart later."""
    points = [(np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)) for line in lines]
    points = [(x, y) for x, y in points if len(x)]
    if not points or max(len(x) for x, _ in points) < 8:
        return
    begin = CROPPED_START * max(x[-1] for x, _ in points)
    late = np.concatenate([y[x >= begin] for x, y in points])
    if len(late) and late.max() > late.min():
        room = 0.08 * (late.max() - late.min())
        axes.set_ylim(late.min() - room, late.max() + room)
