"""A comparison as rows of text: the same on the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from toremi_cli.console import duration
from toremi_cli.evaluate.bootstrap import Interval
from toremi_cli.evaluate.compare import Comparison, Group
from toremi_cli.evaluate.savings import Saving
from toremi_cli.report.numbers import compact
from toremi_cli.schemas import MACRO, MICRO

AVERAGES = (MACRO, MICRO)
SURE = 1.96
"""Standard errors between two task results that are told apart."""


@dataclass(frozen=True)
class TableRow:
    """A label and one cell a group; `heading` rows have no cells."""

    label: str
    cells: tuple[str, ...] = ()
    best: tuple[bool, ...] = ()
    """Which cells to mark."""

    @property
    def is_heading(self) -> bool:
        """Whether the row names the rows after it."""
        return not self.cells


def comparison_rows(comparison: Comparison) -> list[TableRow]:
    """Cost, held-out loss, difference to the baseline, tokens to its final value, tasks."""
    groups = comparison.groups
    rows = [_row("policy", groups, lambda g: g.policy)]
    if any(len(g.runs) > 1 for g in groups):
        rows.append(_row("seeds", groups, lambda g: str(len(g.runs))))
    rows += [
        _row("steps", groups, lambda g: f"{g.mean('step'):,.0f}"),
        _row("tokens", groups, lambda g: compact(g.mean("tokens"))),
        _row("training FLOPs", groups, lambda g: f"{g.mean('flops'):.2e}"),
        _row("training time", groups, lambda g: duration(g.mean("seconds"))),
    ]
    rows += _held_out(comparison)
    if any(g.saving for g in groups):
        rows.append(TableRow(f"reaching {comparison.baseline}'s final loss"))
        rows.append(_row("tokens needed", groups, lambda g: _tokens(g, comparison.baseline)))
        rows.append(_row("compute saved", groups, lambda g: _saved(g.saving)))
        rows.append(_row("  95% interval", groups, lambda g: _saved_interval(g.saving)))
    return rows + _tasks(groups)


def _row(label: str, groups: list[Group], cell: Callable[[Group], str]) -> TableRow:
    cells = tuple(cell(group) or "–" for group in groups)
    return TableRow(label, cells, (False,) * len(cells))


def _held_out(comparison: Comparison) -> list[TableRow]:
    groups = comparison.groups
    domains = list(dict.fromkeys(d for g in groups for d in g.bits_per_byte if d not in AVERAGES))
    if not domains:
        return []
    rows = [TableRow(f"bits per byte on '{comparison.suite}'")]
    for domain in (*AVERAGES, *domains):
        rows.append(_value_row(domain, groups))
    compared = [g for g in groups if g.difference]
    if compared:
        rows.append(TableRow(f"difference to {comparison.baseline}"))
        for domain in (*AVERAGES, *domains):
            cells = tuple(_difference(g.difference.get(domain)) for g in groups)
            better = tuple(_is_better(g.difference.get(domain)) for g in groups)
            rows.append(TableRow(domain, cells, better))
            if domain == MACRO:
                rows.append(_row("  95% interval", groups, lambda g: _interval(g.difference.get(MACRO))))
    return rows


def _value_row(domain: str, groups: list[Group]) -> TableRow:
    found = [g.bits_per_byte.get(domain) for g in groups]
    cells = tuple(_value(i) if i else "–" for i in found)
    values = {round(i.value, 4) for i in found if i}
    best = tuple(i is not None and len(values) > 1 and round(i.value, 4) == min(values) for i in found)
    return TableRow(domain, cells, best)


def _value(found: Interval) -> str:
    return f"{found.value:.4f}" + (f" ±{found.stderr:.4f}" if found.is_known else "")


def _difference(found: Interval | None) -> str:
    if found is None:
        return "–"
    return signed(found.value) + (" !" if found.excludes_zero else "")


def _is_better(found: Interval | None) -> bool:
    return found is not None and found.excludes_zero and found.high < 0


def signed(value: float, digits: int = 4) -> str:
    """With its sign, a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def _interval(found: Interval | None) -> str:
    return f"{signed(found.low)} to {signed(found.high)}" if found and found.is_known else ""


def _tokens(group: Group, baseline: str) -> str:
    if group.saving is None:
        return ""
    if math.isnan(group.saving.tokens):
        return "not reached"
    return compact(group.saving.tokens)


def _saved(saving: Saving | None) -> str:
    if saving is None or math.isnan(saving.saved):
        return ""
    return percent(saving.saved)


def _saved_interval(saving: Saving | None) -> str:
    if saving is None or math.isnan(saving.low) or math.isinf(saving.high):
        return ""
    low = "none" if math.isinf(saving.low) else percent(saving.low)
    high = "none" if math.isinf(saving.high) else percent(saving.high)
    return f"{low} to {high}"


def percent(share: float) -> str:
    """A share in percent, a true minus."""
    return f"{100 * share:.1f}%".replace("-", "−")


def _tasks(groups: list[Group]) -> list[TableRow]:
    names = list(dict.fromkeys(name for g in groups for name in g.tasks))
    rows = [TableRow("tasks")] if names else []
    for name in names:
        cells = tuple(
            _task_cell(g.tasks.get(name), groups[0].tasks.get(name) if g is not groups[0] else None) for g in groups
        )
        rows.append(TableRow(name, cells, (False,) * len(cells)))
    return rows


def _task_cell(found: tuple[float, float] | None, baseline: tuple[float, float] | None) -> str:
    if found is None:
        return "–"
    text = f"{found[0]:.4g} ±{found[1]:.2g}"
    if baseline is None:
        return text
    # As if the items were different ones: on the same items, which they are, the true interval is narrower.
    stderr = math.hypot(found[1], baseline[1])
    return text + (" !" if abs(found[0] - baseline[0]) > SURE * stderr > 0 else "")
