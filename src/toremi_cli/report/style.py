"""How figures look: colours that colour-blind readers can tell apart, and labels that stand beside their lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#B8860B", "#7A5195", "#4D4D4D")
"""After Okabe and Ito (2008), its yellow left out, which is faint on white."""
GREY = "#C4C4C4"
INK = "#333333"
LABEL_WIDTH = 26
LABEL_POINTS = 7.5
RC: dict[Any, Any] = {
    "font.size": 8.5,
    "font.family": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#EDEDED",
    "grid.linewidth": 0.7,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "lines.linewidth": 1.4,
    "savefig.dpi": 160,
    "text.parse_math": False,  # a source may be called "$5 to $10"
    "svg.fonttype": "none",
    "svg.hashsalt": "toremi",
}


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Move labels apart: nearest to `positions` with at least `gap` between neighbours, within low..high if they fit.

    Args:
        positions: (n,) wanted places, any order.
        gap: least distance of two labels.
        low, high: the room there is.

    Returns:
        (n,) places, in the order of `positions`.
    """
    order = np.argsort(positions, kind="stable")
    # With the least gaps taken out, "at least gap apart" is "not decreasing": pool those that fall over each other.
    offsets = np.arange(len(order)) * gap
    blocks: list[tuple[float, int]] = []
    for value in np.asarray(positions, dtype=float)[order] - offsets:
        mean, count = float(value), 1
        while blocks and blocks[-1][0] > mean:
            before, size = blocks.pop()
            mean, count = (before * size + mean * count) / (size + count), size + count
        blocks.append((mean, count))
    flat = np.repeat([b[0] for b in blocks], [b[1] for b in blocks]) if blocks else np.zeros(0)
    highest = max(high - (offsets[-1] if len(offsets) else 0.0), low)
    result = np.empty(len(order))
    result[order] = np.clip(flat, low, highest) + offsets
    return result


def label_inches(name: str) -> float:
    """How wide a topic's name is beside its line."""
    outline = TextPath((0, 0), shortened(name), size=LABEL_POINTS, prop=FontProperties(family=RC["font.family"]))
    return float(outline.get_extents().width) / 72 if shortened(name).strip() else 0.0


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], size: float = LABEL_POINTS) -> None:
    """Write a name beside the right end of each line; `ends` holds (y, name, colour). Call when limits are final."""
    if not ends:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    height = axes.get_window_extent().height * 72 / figure.dpi  # points
    to_axes = axes.transData.transform
    inverse = axes.transAxes.inverted().transform
    wanted = [inverse(to_axes((0, y)))[1] if axes.get_xscale() == "linear" else 0.5 for y, _, _ in ends]
    places = spread(wanted, gap=size * 1.2 / height, low=0.0, high=1.0)
    for (_, name, colour), y, place in zip(ends, wanted, places, strict=True):
        axes.annotate(
            shortened(name),
            xy=(1.0, y),
            xytext=(1.03, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            ha="left",
            fontsize=size,
            color=colour,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.6,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def shortened(name: str) -> str:
    """A name that fits beside a figure."""
    name = name.replace("_", " ")
    return name if len(name) <= LABEL_WIDTH else name[: LABEL_WIDTH - 1] + "…"
