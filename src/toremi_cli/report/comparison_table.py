"""A comparison as rows of text: the same on the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from toremi_cli.console import duration
from toremi_cli.evaluate.compare import Comparison, Group
from toremi_cli.evaluate.intervals import Interval
from toremi_cli.evaluate.savings import Saving
from toremi_cli.report.numbers import compact
from toremi_cli.schemas import MACRO, MICRO

AVERAGES = (MACRO, MICRO)
SURE = 1.96
"""Standard errors between two task results that are told apart."""
BEST = "* the best of a row"
LEGEND = (
    "± standard error, [ ] 95% interval. Differences are on the same documents, below zero is better; "
    "! told apart from zero at 95%, the sources corrected for their number (Holm)"
)
"""What the signs of a comparison mean; said once beside it."""


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
        _row("time, evaluation apart", groups, lambda g: duration(g.mean("seconds"))),
    ]
    if any(math.isfinite(g.mean("mfu")) for g in groups):
        rows.append(_row("model FLOPs utilization", groups, lambda g: _percent(g.mean("mfu"))))
    return rows + _held_out(comparison) + _differences(comparison) + _savings(comparison) + _tasks(groups)


def _percent(fraction: float) -> str:
    return f"{fraction:.0%}" if math.isfinite(fraction) else ""


def _row(label: str, groups: list[Group], cell: Callable[[Group], str]) -> TableRow:
    cells = tuple(cell(group) or "–" for group in groups)
    return TableRow(label, cells, (False,) * len(cells))


def _domains(comparison: Comparison) -> list[str]:
    found = list(dict.fromkeys(d for g in comparison.groups for d in g.bits_per_byte if d not in AVERAGES))
    return [*AVERAGES, *found] if found else []


def _held_out(comparison: Comparison) -> list[TableRow]:
    groups, domains = comparison.groups, _domains(comparison)
    if not domains:
        return []
    rows = [TableRow(f"bits per byte on '{comparison.suite}'")]
    if any(run.final is not None and run.final_step < run.step for g in groups for run in g.runs):
        rows.append(_row("measured at step", groups, lambda g: f"{g.mean('final_step'):,.0f}"))
    if len({g.conditions for g in groups if g.bits_per_byte}) > 1:
        rows.append(_row("measured under", groups, lambda g: g.conditions))
    return rows + [_value_row(domain, groups, comparison.alike) for domain in domains]


def _value_row(domain: str, groups: list[Group], ranked: bool) -> TableRow:
    found = [g.bits_per_byte.get(domain) for g in groups]
    cells = tuple(_value(i) if i else "–" for i in found)
    values = {round(i.value, 4) for i in found if i} if ranked else set()
    best = tuple(i is not None and len(values) > 1 and round(i.value, 4) == min(values) for i in found)
    return TableRow(domain, cells, best)


def _value(found: Interval) -> str:
    return f"{found.value:.4f}" + (f" ±{found.stderr:.4f}" if found.is_known else "")


def _differences(comparison: Comparison) -> list[TableRow]:
    groups = comparison.groups
    if not any(g.difference for g in groups):
        return []
    rows = [TableRow(f"difference to {comparison.baseline}")]
    columns = [(g.difference, g.sure) for g in groups]
    return rows + [_difference_row(domain, domain, columns) for domain in _domains(comparison)]


def _difference_row(label: str, domain: str, columns: list[tuple[dict[str, Interval], set[str]]]) -> TableRow:
    """A domain's differences; a column holds those of a group, and the domains that are told apart from nothing."""
    cells = tuple(_difference(found.get(domain), domain in sure) for found, sure in columns)
    better = tuple(domain in sure and found[domain].value < 0 for found, sure in columns)
    return TableRow(label, cells, better)


def _difference(found: Interval | None, is_sure: bool) -> str:
    if found is None:
        return "–"
    interval = f" [{signed(found.low)}, {signed(found.high)}]" if found.is_known else ""
    return signed(found.value) + interval + (" !" if is_sure else "")


def signed(value: float, digits: int = 4) -> str:
    """With its sign, a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def _savings(comparison: Comparison) -> list[TableRow]:
    groups = comparison.groups
    if not any(g.saving for g in groups):
        return []
    rows = [TableRow(f"reaching {comparison.baseline}'s final loss")]
    if any(g.saving and g.saving.num_pairs > 1 for g in groups):
        rows.append(_row("seeds that got there", groups, lambda g: _reached(g.saving)))
    rows.append(_row("tokens needed", groups, lambda g: _tokens(g.saving)))
    rows.append(_row("compute saved", groups, lambda g: _saved(g.saving)))
    rows.append(_row("  95% interval", groups, lambda g: _saved_interval(g.saving)))
    return rows


def _reached(saving: Saving | None) -> str:
    return f"{saving.num_reached} of {saving.num_pairs}" if saving else ""


def _tokens(saving: Saving | None) -> str:
    if saving is None:
        return ""
    return "not reached" if math.isnan(saving.tokens) else compact(saving.tokens)


def _saved(saving: Saving | None) -> str:
    if saving is None or math.isnan(saving.saved):
        return ""
    return percent(saving.saved)


def _saved_interval(saving: Saving | None) -> str:
    if saving is None or math.isnan(saving.low) or math.isinf(saving.high):
        return ""
    low = "none" if math.isinf(saving.low) else percent(saving.low)
    return f"{low} to {percent(saving.high)}"


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
    compared = list(dict.fromkeys(task for g in groups for task in g.task_difference if task not in AVERAGES))
    if compared:
        rows.append(TableRow("right answers' bits per byte, difference"))
        columns = [(g.task_difference, g.sure_tasks) for g in groups]
        rows += [_difference_row(task, task, columns) for task in compared]
        rows += [_difference_row("mean of the tasks", MACRO, columns)] if len(compared) > 1 else []
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
