"""`toremi inspect`: what a table is, where it comes from, and a few of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands.common import Json, command

CELL_WIDTH = 60


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
    from rich.table import Table as RichTable
    from rich.text import Text

    console.out.print(Text(f"{facts['path']}: {facts['table']}", style="bold"))
    console.out.print(f"  {facts['meaning']}", markup=False)
    for key in ("num_rows", "num_shards", "num_bytes"):
        console.out.print(f"  {key:<14}{facts[key]:,}", markup=False)
    for key, value in facts["provenance"].items():
        console.out.print(f"  {key:<14}{_cell(value, 200)}", markup=False, soft_wrap=True)
    columns = RichTable("column", "type", "unit", "meaning", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in facts["columns"]:
        columns.add_row(*(Text(column[key]) for key in ("name", "type", "unit", "meaning")))
    console.out.print()
    console.out.print(columns)
    for index, row in enumerate(facts["rows"]):
        console.out.print(Text(f"\nrow {index}", style="bold"))
        for name, value in row.items():
            console.out.print(f"  {name:<12}{_cell(value, CELL_WIDTH)}", markup=False, soft_wrap=True)


def _cell(value: Any, width: int) -> str:
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, list) and value and isinstance(value[0], float):
        text = f"[{len(value)}] " + " ".join(f"{v:.3f}" for v in value[:8])
    else:
        text = " ".join(str(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"
