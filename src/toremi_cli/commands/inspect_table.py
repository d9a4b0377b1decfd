"""`toremi inspect`: what a table is, where it comes from, and a few of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands.common import Json, command

CELL_WIDTH = 60
"""Characters of a value in a row that is shown."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "inspect", "Look")
    def inspect(
        path: Annotated[Path, typer.Argument(help="A Parquet file, or a folder of shards.")],
        rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="How many rows to show.")] = 3,
        as_json: Json = False,
    ) -> None:
        """Print what a table is, its provenance, its size and a few rows.

        Example: [bold]toremi inspect toremi-out/annotated[/]
        """
        from toremi_cli.describe import describe_table

        facts = describe_table(path, rows)
        console.print_json(facts) if as_json else _print(facts)


def _print(facts: dict[str, Any]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.out.print(Text(f"{facts['path']}: {facts['table']}", style="bold"))
    console.out.print(Padding(Text(facts["meaning"]), (0, 0, 0, 2)))
    sizes = [(key, f"{facts[key]:,}") for key in ("num_rows", "num_shards", "num_bytes")]
    _print_pairs([*sizes, *((key, _settings(value)) for key, value in facts["provenance"].items())])
    columns = console.table("column", "type", "unit", "meaning")
    for column in facts["columns"]:
        columns.add_row(*(Text(column[key]) for key in ("name", "type", "unit", "meaning")))
    console.out.print()
    console.out.print(columns)
    for index, row in enumerate(facts["rows"]):
        console.out.print(Text(f"\nrow {index}", style="bold"))
        _print_pairs([(name, _cell(value)) for name, value in row.items()])


def _print_pairs(pairs: list[tuple[str, str]]) -> None:
    """Names and values in two columns, the values folded within theirs."""
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(f"  {name}"), Text(value))
    console.out.print(table)


def _settings(value: Any) -> str:
    """A mapping as 'name value, name value', without what is not set."""
    if not isinstance(value, dict):
        return str(value)
    items = [(key, _settings(item)) for key, item in value.items() if item not in (None, "", [], {})]
    return ", ".join(f"{key} ({item})" if isinstance(value[key], dict) else f"{key} {item}" for key, item in items)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, list) and value and isinstance(value[0], float):
        text = f"[{len(value)}] " + " ".join(f"{v:.3f}" for v in value[:8])
    else:
        text = " ".join(str(value).split())
    return text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…"
