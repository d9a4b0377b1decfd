"""A comparison for a paper or a program: Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from typing import Any

from toremi_cli.errors import UsageError
from toremi_cli.evaluate.compare import Comparison, Group
from toremi_cli.report.comparison_table import LEGEND, TableRow, comparison_rows

FORMATS = ("table", "md", "latex", "csv")
CSV_COLUMNS = ("run", "policy", "seeds", "quantity", "domain", "value", "low", "high", "stderr", "sure")
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
}


def check_format(name: str) -> None:
    """Refuse a format that isn't there.

    Raises:
        UsageError: names those that are.
    """
    if name not in FORMATS:
        raise UsageError(f"--format {name}: expected {', '.join(FORMATS)}")


def formatted(comparison: Comparison, file_format: str) -> str:
    """The comparison as text in one of `FORMATS` but 'table'."""
    return {"md": to_markdown, "latex": to_latex, "csv": to_csv}[file_format](comparison)


def to_markdown(comparison: Comparison) -> str:
    """A table of Markdown with the best of a row in bold, and what its signs mean."""

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    names = [group.name for group in comparison.groups]
    lines = [line(["", *names]), line(["---", *["---:"] * len(names)])]
    for row in comparison_rows(comparison):
        if row.is_heading:
            lines.append(line([f"**{row.label}**", *[""] * len(names)]))
        else:
            lines.append(line([row.label.strip(), *(_bold(row, "**{}**"))]))
    return "\n".join([*lines, "", f"{LEGEND}."]) + "\n"


def to_latex(comparison: Comparison) -> str:
    """A tabular for LaTeX with booktabs, the best of a row in bold."""
    names = [group.name for group in comparison.groups]
    lines = [f"% {LEGEND}", "% \\usepackage{booktabs}", f"\\begin{{tabular}}{{l{'r' * len(names)}}}", "\\toprule"]
    lines += [" & ".join(["", *map(_escaped, names)]) + r" \\", "\\midrule"]
    for row in comparison_rows(comparison):
        if row.is_heading:
            lines += ["\\midrule", f"\\multicolumn{{{len(names) + 1}}}{{l}}{{\\textit{{{_escaped(row.label)}}}}} \\\\"]
        else:
            cells = _bold(TableRow(row.label, tuple(map(_escaped, row.cells)), row.best), "\\textbf{{{}}}")
            # a row that begins with a bracket would be taken for an argument of the line break before it
            lines.append(" & ".join([_escaped(row.label.strip()), *cells]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _bold(row: TableRow, pattern: str) -> list[str]:
    return [pattern.format(cell) if best else cell for cell, best in zip(row.cells, row.best, strict=True)]


def _escaped(text: str) -> str:
    return re.sub("[{}]".format(re.escape("".join(_LATEX))), lambda found: _LATEX[found[0]], text)


def to_csv(comparison: Comparison) -> str:
    """One number a row, with its interval and standard error; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for group in comparison.groups:
        here = {"run": group.name, "policy": group.policy, "seeds": len(group.runs)}
        for values in _numbers(group):
            writer.writerow({**here, **{k: v for k, v in values.items() if not _unknown(v)}})
    return text.getvalue()


def _numbers(group: Group) -> Iterator[dict[str, Any]]:
    for quantity in ("step", "tokens", "flops", "seconds", "mfu", "final_step"):
        yield {"quantity": quantity, "value": group.mean(quantity)}
    for quantity, intervals in (("bits_per_byte", group.bits_per_byte), ("difference", group.difference)):
        for domain, found in intervals.items():
            numbers = {name: getattr(found, name) for name in ("value", "low", "high", "stderr")}
            sure = {"sure": domain in group.sure} if quantity == "difference" else {}
            yield {"quantity": quantity, "domain": domain, **numbers, **sure}
    if group.saving:
        yield {"quantity": "tokens_needed", "value": group.saving.tokens}
        ends = {"low": group.saving.low, "high": group.saving.high}
        yield {"quantity": "compute_saved", "value": group.saving.saved, **ends}
    for name, (value, stderr) in group.tasks.items():
        yield {"quantity": "task", "domain": name, "value": value, "stderr": stderr}


def _unknown(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
