"""Numbers as people read them."""

from __future__ import annotations


def compact(value: float, _: object = None) -> str:
    """12000 as '12k', 3.4e9 as '3.4B'."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"
