"""`toremi compare`: what a policy bought, in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command

if TYPE_CHECKING:
    from toremi_cli.evaluate.compare import Comparison


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "compare", "Look")
    def compare(
        runs: Annotated[
            list[str] | None, typer.Argument(metavar="[RUN…]", help="Names or paths; none: every run.")
        ] = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        baseline: Annotated[
            str, typer.Option(metavar="RUN", help="What to compare with; default: the run with policy uniform.")
        ] = "",
        suite: Annotated[
            str, typer.Option(metavar="NAME", help="Text that `toremi eval` measured the runs on.")
        ] = "test",
        as_json: Json = False,
    ) -> None:
        """Compare runs with a baseline: cost, held-out loss, compute saved, tasks.

        Differences are of the same documents (paired), their intervals from
        resampling these. Runs of one policy that differ in the seed only are
        grouped; intervals are then over the seeds. For an interval of the
        compute saved, keep all checkpoints (pretrain --keep-checkpoints 0) and
        measure them (eval --checkpoint all).

        Example: [bold]toremi compare uniform toremi-2[/]
        """
        from toremi_cli import layout
        from toremi_cli.evaluate.compare import compare_runs
        from toremi_cli.runs.history import find_recorded_runs

        found = compare_runs(find_recorded_runs(tuple(runs or ()), layout.Workdir(workdir)), suite, baseline)
        for warning in found.warnings:
            console.warn(warning)
        console.print_json(found.to_json()) if as_json else _print(found)


def _print(comparison: Comparison) -> None:
    from toremi_cli.report.comparison_table import comparison_rows
    from toremi_cli.report.terminal import text_table

    rows = comparison_rows(comparison)
    for table in text_table([g.name for g in comparison.groups], rows):
        console.out.print(table)
        console.out.print()
    if any(group.difference for group in comparison.groups):
        legend = "below zero is better; ! the 95% interval leaves out zero; * the best of a row"
        console.out.print(legend, markup=False, style="dim")
