"""Medians over the text: what a corpus is like in its middle, whatever a smaller part of it is.

Topics are uneven, and may be cut as anyone likes. Where noise is a quarter of the text in 9 of 16 sources, the median
source is noise; the median over the text is not.
"""

from __future__ import annotations

import torch
from torch import Tensor

NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
FEWEST = 3
"""Topics that a spread is told by."""
LEAST_SPREAD = 0.02
"""Of a logarithm over topics: what differs by less than 2% is the same."""


def median_of_text(values: Tensor, text: Tensor) -> Tensor:
    """The value that half of the text lies below, between two topics interpolated; half of a topic lies below its own.

    With as much text in each topic, the ordinary median.

    Args:
        values: (num_topics,), at least one.
        text: (num_topics,) how much text has each value, in any unit; none of it: as much of each.
    """
    order = text.argsort()  # of equal values the one with less text comes first, in whatever order they were given
    order = order[values[order].argsort(stable=True)]
    values = values[order]
    amounts = text[order] if float(text.sum()) > 0 else torch.ones_like(values)
    centres = (amounts.cumsum(0) - amounts / 2) / amounts.sum()
    above = int((centres < 0.5).sum())
    if above in (0, len(values)):
        return values[min(above, len(values) - 1)]
    part = (0.5 - centres[above - 1]) / (centres[above] - centres[above - 1])
    return values[above - 1] + part * (values[above] - values[above - 1])


def centre_of_text(values: Tensor, text: Tensor) -> tuple[float, float]:
    """Median over the text and the standard deviation that the median absolute deviation from it speaks for."""
    middle = median_of_text(values, text)
    return float(middle), NORMAL * float(median_of_text((values - middle).abs(), text))


def score_above(values: Tensor, known: Tensor, text: Tensor) -> Tensor:
    """(num_topics,) standard score of logarithms, by the deviation of the topics below the median over the text.

    Those above may be noise, many of them; they count only where fewer than three lie below. Each of them counts the
    same: a topic that is half of the text would be its own measure.

    Args:
        values: (num_topics,) logarithms.
        known: (num_topics,) bool: which of them count, at least one.
        text: (num_topics,) how much text each topic is.
    """
    counted = values[known]
    middle = median_of_text(counted, text[known])
    lowest = counted.sort().values[: max(int((counted <= middle).sum()), FEWEST)]
    deviation = (lowest - middle).abs().quantile(0.5)
    return (values - middle) / (NORMAL * deviation).clamp_min(LEAST_SPREAD)
