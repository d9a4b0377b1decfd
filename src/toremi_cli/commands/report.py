"""`toremi report`: what runs did, as a page or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Workdir, command

PAGES = ("html", "htm")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "report", "Look")
    def report(
        runs: Annotated[
            list[str] | None, typer.Argument(metavar="[RUN…]", help="Names or paths; none: every run.")
        ] = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where it goes.")] = Path(
            "report.html"
        ),
        file_format: Annotated[
            str, typer.Option("--format", metavar="html|png|svg|pdf", help="Default: by the ending of FILE.")
        ] = "",
        figure: Annotated[
            str, typer.Option(metavar="overview|weights|curves", help="What an image shows.")
        ] = "overview",
        suite: Annotated[str, typer.Option(metavar="NAME", help="Text on which the page compares the runs.")] = "test",
    ) -> None:
        """Show what runs did: one self-contained page, or an image.

        The page has a summary with alarms, weights and losses by topic,
        learning curves by domain, the comparison with its intervals, the map of
        the topics, settings. It needs no network. Images (png, svg, pdf) show
        the weights, the losses, the learning curves. Runs that are still going
        are shown as far as they have come.

        Example: [bold]toremi report uniform toremi-2 -o report.html[/]

        Example: [bold]toremi report toremi-2 --figure weights -o weights.svg[/]
        """
        from toremi_cli import layout
        from toremi_cli.runs.history import find_recorded_runs, read_history

        kind = file_format or output.suffix.lstrip(".").lower() or "html"
        place = layout.Workdir(workdir)
        found = find_recorded_runs(tuple(runs or ()), place)
        histories = [read_history(run) for run in found]
        for run in found:
            if run.is_going:
                console.note(f"run {run.name} is not finished: shown as far as it has come")
        if kind in PAGES:
            from toremi_cli.report.page import save_page

            save_page(histories, place, output, suite)
        else:
            from toremi_cli.report.figures import save_figure

            save_figure(histories, output, figure, kind)
        console.note(f"wrote {output}")
