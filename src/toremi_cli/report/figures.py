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
from toremi_cli.report.numbers import compact
from toremi_cli.report.page_data import CROPPED_START
from toremi_cli.report.style import COLOURS, GREY, INK, RC, label_ends, shortened
from toremi_cli.runs.history import CURVE, History, TopicCourses
from toremi_cli.schemas import MACRO
from toremi_cli.tables import atomic_file

KINDS = ("overview", "weights", "curves")
FORMATS = ("png", "svg", "pdf")
WIDTH_INCHES = 10.0
PANEL_INCHES = 3.1
CURVE_INCHES = 1.75
CURVES_A_ROW = 4
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
        raise UsageError(f"--figure {kind}: expected one of {', '.join(KINDS)}")
    if file_format not in FORMATS:
        raise UsageError(f"no format '{file_format}': --format and the ending of -o may be html, {', '.join(FORMATS)}")
    with mpl.rc_context(RC):
        figure = draw(histories, kind)
        metadata = {"Date": None} if file_format == "svg" else {"CreationDate": None} if file_format == "pdf" else None
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=file_format, facecolor="white", metadata=metadata)


def draw(histories: Sequence[History], kind: str = "overview") -> Figure:
    """The figure, drawn with the style in force.

    Raises:
        TableError: nothing to show.
    """
    weighted = [h for h in histories if h.topics is not None] if kind != "curves" else []
    # A run whose weights never move has nothing to show in them, unless it is alone.
    weighted = [h for h in weighted if h.topics and not h.topics.is_constant] or weighted[:1]
    domains = sorted({d for h in histories for d in h.domains(CURVE)}) if kind != "weights" else []
    if not weighted and not domains:
        raise TableError(f"{', '.join(h.name for h in histories)}: recorded nothing that figure '{kind}' shows")
    panels = [MACRO, *domains] if domains else []
    num_rows = math.ceil(len(panels) / CURVES_A_ROW)
    heights = [PANEL_INCHES] * len(weighted) + ([CURVE_INCHES * num_rows + 0.7] if panels else [])
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, history in zip(parts, weighted, strict=False):
        assert history.topics is not None
        _draw_topics(part, history.name, history.topics)
    if panels:
        _draw_curves(parts[-1], histories, panels, num_rows)
    return figure


def _draw_topics(part: SubFigure, title: str, courses: TopicCourses) -> None:
    """Weights on the left, losses on the right, with the same colours."""
    axes = part.subplots(1, 2)
    part.subplots_adjust(left=0.055, right=0.855, bottom=0.16, top=0.86, wspace=0.5)
    colours = topic_colours(courses)
    named = f" ({len(colours)} of {len(courses.topics)} named)" if len(colours) < len(courses.topics) else ""
    for panel, values, name in (
        (axes[0], courses.weight, "weight of each topic"),
        (axes[1], courses.loss, "loss of each topic, nats a token"),
    ):
        _draw_lines(panel, courses, values, colours)
        panel.set_title(f"{title}: {name}{named}" if panel is axes[0] else name)
        panel.set_xlabel("step")
    axes[0].axhline(1.0, color=INK, lw=0.7, ls=(0, (2, 3)), zorder=1)


def topic_colours(courses: TopicCourses) -> dict[str, str]:
    """A colour for each topic worth telling apart: all if they are few, else those whose weights went furthest."""
    topics = courses.topics
    if len(topics) > len(COLOURS):
        last = np.array([_last(courses.weight[:, i]) for i in range(len(topics))])
        away = np.abs(np.log(np.maximum(last, 1e-6)))
        chosen = np.argsort(-np.nan_to_num(away), kind="stable")[: len(COLOURS)]
        topics = [topics[i] for i in sorted(chosen)]
    return dict(zip(topics, COLOURS, strict=False))


def _last(values: np.ndarray) -> float:
    seen = values[~np.isnan(values)]
    return float(seen[-1]) if len(seen) else math.nan


def _draw_lines(axes: Axes, courses: TopicCourses, values: np.ndarray, colours: dict[str, str]) -> None:
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
    if values is courses.weight and courses.is_wide:  # updates multiply: 0.5 is as far from 1 as 2
        axes.set_yscale("log", subs=(1, 2, 5))
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(compact)
        axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.0, y=0.06)
    axes.xaxis.set_major_formatter(compact)
    if courses.switch_step is not None and courses.switch_step > courses.steps[0]:
        axes.axvline(courses.switch_step, color=INK, lw=0.8, ls="--", zorder=1)
        axes.text(
            courses.switch_step,
            0.985,
            " stage 2",
            transform=axes.get_xaxis_transform(),
            va="top",
            fontsize=7.5,
            color=INK,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
        )
    label_ends(axes, ends)


def _draw_curves(part: SubFigure, histories: Sequence[History], panels: Sequence[str], num_rows: int) -> None:
    """A small panel for each domain with one line a run; the first panel is the macro average and names the runs."""
    grid = part.subplots(num_rows, CURVES_A_ROW, squeeze=False, sharex=True).ravel()
    height = part.bbox.height / part.figure.dpi
    part.subplots_adjust(left=0.055, right=0.985, bottom=0.45 / height, top=1 - 0.62 / height, wspace=0.27, hspace=0.42)
    part.text(0.055, 1 - 0.12 / height, "held-out bits per byte by domain", weight="bold", size=9.5, va="top")
    handles: list[Line2D] = []
    for axes, domain in zip(grid, panels, strict=False):
        lines = [_draw_curve(axes, h, domain, COLOURS[i % len(COLOURS)], i) for i, h in enumerate(histories)]
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
    names = [h.name for h in histories]
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


def _draw_curve(axes: Axes, history: History, domain: str, colour: str, number: int) -> Line2D:
    course = history.metrics.get((CURVE, domain))
    steps, values = (course.steps, course.values) if course else (np.zeros(0), np.zeros(0))
    style = LINE_STYLES[number % len(LINE_STYLES)]
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
