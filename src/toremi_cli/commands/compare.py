"""`toremi compare`: what a policy bought, in one table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Runs, Workdir, command

if TYPE_CHECKING:
    from toremi_cli.evaluate.compare import Comparison


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "compare", "Look")
    def compare(
        runs: Runs = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        baseline: Annotated[
            str, typer.Option(metavar="RUN", help="What to compare with; default: the run with policy uniform.")
        ] = "",
        suite: Annotated[
            str, typer.Option(metavar="NAME", help="Text that `toremi eval` measured the runs on.")
        ] = "test",
        file_format: Annotated[
            str, typer.Option("--format", metavar="table|md|latex|csv", help="How it is printed.")
        ] = "table",
        as_json: Json = False,
    ) -> None:
        """Compare runs with a baseline: cost, held-out loss, compute saved, tasks.

        Differences are of the same documents (paired), their intervals from
        halves of these. Runs of one policy that differ in the seed only are
        grouped; intervals are then over the seeds. Numbers measured at other
        steps, or with another context length or stride, are not subtracted. For
        an interval of the compute saved, keep all checkpoints (pretrain
        --keep-checkpoints all) and measure them (eval --checkpoint all).

        Example: [bold]toremi compare uniform toremi-2[/]

        Example: [bold]toremi compare --format latex > table.tex[/]
        """
        from toremi_cli import layout
        from toremi_cli.evaluate.compare import compare_runs
        from toremi_cli.report.comparison_formats import check_format, formatted
        from toremi_cli.runs.history import find_recorded_runs

        check_format(file_format)
        found = compare_runs(find_recorded_runs(tuple(runs or ()), layout.Workdir(workdir)), suite, baseline)
        for warning in found.warnings:
            console.warn(warning)
        if as_json:
            console.print_json(found.to_json())
        elif file_format != "table":
            sys.stdout.write(formatted(found, file_format))
        else:
            _print(found)


def _print(comparison: Comparison) -> None:
    from toremi_cli.report.comparison_table import BEST, LEGEND, comparison_rows
    from toremi_cli.report.terminal import text_table

    rows = comparison_rows(comparison)
    for table in text_table([g.name for g in comparison.groups], rows):
        console.out.print(table)
        console.out.print()
    if any(group.bits_per_byte or group.tasks for group in comparison.groups):
        console.out.print(f"{LEGEND}; {BEST}", style="dim")
