"""Tables of results for a terminal of 80 columns: the best value of a row in bold and with a star."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile

from rich.table import Table
from rich.text import Text

from toremi_cli.evaluate.scores import best_of
from toremi_cli.report.comparison_table import TableRow
from toremi_cli.schemas import MACRO, MICRO, TOPIC_DOMAIN

NAME_WIDTH = 26
LABEL_WIDTH, LEAST_LABEL_WIDTH = 32, 18
MAX_COLUMNS, LEAST_COLUMNS = 5, 2
Row = tuple[str, Mapping[str, float]]
"""A row's name and its value in each column."""


def shorten(text: str, width: int) -> str:
    """The text, its middle cut out where it is too long."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]


def short_names(names: Sequence[str], width: int) -> list[str]:
    """Names of at most `width` characters: where one is longer, what all begin with goes first."""
    if max(map(len, names), default=0) <= width:
        return list(names)
    first, last = min(names), max(names)  # what these two begin with, all between them do
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    common = "".join(sign for sign, _ in same) if first != last else ""
    cut = max(common.rfind(sign) for sign in "-_./ ") + 1
    return [shorten(("…" if cut else "") + name[cut:], width) for name in names]


def format_value(value: float) -> str:
    """Four significant digits, whole numbers above a thousand."""
    if not math.isfinite(value):
        return "inf" if value == math.inf else "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 100 else f"{value:.3f}"


def side_by_side(title: str, columns: Sequence[str], rows: Sequence[Row], mark: bool = True) -> list[Table]:
    """One table for as many columns as have room for their names; a rule stands before the averages and the topics."""
    at_once = _columns_at_once(columns)
    blocks = [columns[i : i + at_once] for i in range(0, len(columns), at_once)]
    return [_block(title, block, columns, rows, mark) for block in blocks]


def _columns_at_once(names: Sequence[str]) -> int:
    """The most columns whose names are whole; names too long for `LEAST_COLUMNS` are shortened."""
    longest = max(map(len, names), default=0)
    fitting = (n for n in range(MAX_COLUMNS, LEAST_COLUMNS, -1) if longest <= _column_width(min(n, len(names))))
    return next(fitting, LEAST_COLUMNS)


def _column_width(num_columns: int) -> int:
    return max((80 - NAME_WIDTH - 2) // max(num_columns, 1) - 2, 7)


def _block(title: str, block: Sequence[str], columns: Sequence[str], rows: Sequence[Row], mark: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text(title), no_wrap=True, min_width=NAME_WIDTH, max_width=NAME_WIDTH)
    width = _column_width(len(block))
    heads = dict(zip(columns, short_names(columns, width), strict=True))
    for name in block:
        table.add_column(Text(heads[name]), justify="right", no_wrap=True)
    for number, (name, values) in enumerate(rows):
        if number and _group(name) != _group(rows[number - 1][0]):
            table.add_row()
        best = best_of({column: values[column] for column in columns if column in values}) if mark else set()
        cells = [_cell(values.get(column), column in best, mark) for column in block]
        label = name.removeprefix(TOPIC_DOMAIN)
        table.add_row(Text(shorten(label, NAME_WIDTH), style="italic" if name.startswith(TOPIC_DOMAIN) else ""), *cells)
    return table


def _group(name: str) -> int:
    return 1 if name in (MACRO, MICRO) else 2 if name.startswith(TOPIC_DOMAIN) else 0


def _cell(value: float | None, is_best: bool, mark: bool) -> Text:
    if value is None:
        return Text("–" + " " * mark, style="dim")
    return Text(format_value(value) + ("*" if is_best else " " * mark), style="bold green" if is_best else "")


def text_table(columns: Sequence[str], rows: Sequence[TableRow]) -> list[Table]:
    """Rows of text, one table for each two columns; headings in bold, the best of a row in green with a star."""
    blocks = [range(len(columns))[i : i + 2] for i in range(0, len(columns), 2)]
    return [_text_block(columns, rows, block) for block in blocks]


def _text_block(columns: Sequence[str], rows: Sequence[TableRow], block: range) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    heads = short_names(columns, (80 - LABEL_WIDTH) // len(block) - 1)
    widths = [max(len(heads[i]), *(len(row.cells[i]) + 1 for row in rows if not row.is_heading)) for i in block]
    labels = min(max(80 - sum(widths) - len(block) - 1, LEAST_LABEL_WIDTH), LABEL_WIDTH)
    table.add_column("", no_wrap=True, min_width=LEAST_LABEL_WIDTH, max_width=labels)
    for index in block:
        table.add_column(Text(heads[index]), justify="right", no_wrap=True)
    for row in rows:
        if row.is_heading:
            table.add_row()
            table.add_row(Text(shorten(row.label, labels), style="bold"))
            continue
        cells = [Text(row.cells[i] + ("*" if row.best[i] else " "), "bold green" if row.best[i] else "") for i in block]
        table.add_row(Text(shorten(row.label, labels)), *cells)
    return table
