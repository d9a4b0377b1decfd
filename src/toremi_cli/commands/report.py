"""`toremi report`: what runs did, as a page or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Runs, Workdir, command

PAGES = ("html", "htm")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "report", "Look")
    def report(
        runs: Runs = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where it goes.")] = Path(
            "report.html"
        ),
        file_format: Annotated[
            str, typer.Option("--format", metavar="html|png|svg|pdf", help="Default: by the ending of FILE.")
        ] = "",
        figure: Annotated[
            str, typer.Option(metavar="overview|draws|weights|curves", help="What an image shows.")
        ] = "overview",
        suite: Annotated[str, typer.Option(metavar="NAME", help="Text on which the runs are compared.")] = "test",
        sources: Annotated[
            str, typer.Option(metavar="NAME,…", help="Compare on these sources of it; default: all.")
        ] = "",
    ) -> None:
        """Show what runs did: a few lines, and one self-contained page or an image.

        The lines say which topics a run draws less and more than the baseline,
        and what that does to the held-out loss. The page has that with a
        chart, alarms, weights and losses by topic, learning curves by domain,
        the comparison with its intervals, the map of the topics, settings. It
        needs no network. Images (png, svg, pdf) show the draws, the weights, the
        losses, the learning curves. Runs that are still going are shown as far
        as they have come.

        Example: [bold]toremi report uniform toremi-2 -o report.html[/]

        Example: [bold]toremi report --sources books,news[/]

        Example: [bold]toremi report toremi-2 --figure weights -o weights.svg[/]
        """
        from toremi_cli import layout
        from toremi_cli.report.digest import lines, read_report
        from toremi_cli.runs.history import find_recorded_runs

        kind = file_format or output.suffix.lstrip(".").lower() or "html"
        found = find_recorded_runs(tuple(runs or ()), layout.Workdir(workdir))
        for run in found:
            if run.is_going:
                console.note(f"run {run.name} is not finished: shown as far as it has come")
        chosen = tuple(name.strip() for name in sources.split(",") if name.strip())
        report = read_report(found, layout.Workdir(workdir), suite, chosen)
        if kind in PAGES:
            from toremi_cli.report.page import save_page

            save_page(report, output)
        else:
            from toremi_cli.report.figures import save_draws, save_figure

            if figure == "draws":
                save_draws(report, output, kind)
            else:
                save_figure(report.histories, output, figure, kind)
        for digest in report.digests:
            for line in lines(digest, suite):
                console.say(line)
        console.note(f"wrote {output}")
