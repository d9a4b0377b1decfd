"""The `toremi` command: registers the stage commands. Imports nothing heavy, so that `--help` is instant."""

from __future__ import annotations

from typing import Annotated

import typer

from toremi_cli import __version__
from toremi_cli.commands import (
    annotate,
    cluster,
    compare,
    corrupt,
    embed,
    eval_runs,
    export,
    inspect_table,
    pretrain,
    replay,
    report,
    sample,
    topics,
    weights,
)

app = typer.Typer(
    name="toremi",
    help="Topic-aware data reweighting for language-model pre-training.",
    epilog="Stages meet in Parquet files under --workdir (default: toremi-out); look at any of them with "
    "`toremi inspect PATH`.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (
    annotate,
    cluster,
    compare,
    corrupt,
    embed,
    eval_runs,
    export,
    inspect_table,
    pretrain,
    replay,
    report,
    sample,
    topics,
    weights,
):
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"toremi {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
