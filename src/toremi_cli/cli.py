"""The `toremi` command: registers the stage commands. Imports nothing heavy, so that `--help` is instant."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from toremi_cli import __version__, console
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
    tokenize,
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
    *(annotate, cluster, compare, corrupt, embed, eval_runs, export, inspect_table),
    *(pretrain, replay, report, sample, tokenize, topics, weights),
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
    """Run the command line of this process."""
    console.survive_any_encoding()
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        raise SystemExit(1) from None
    except Exception as problem:
        if not hasattr(problem, "format_message"):  # what click and typer raise over a command line has it
            raise
        _print_usage_error(problem)
        raise SystemExit(getattr(problem, "exit_code", 2)) from None
    raise SystemExit(code or 0)


def _print_usage_error(problem: Any) -> None:
    """One line about a command line that cannot be parsed; nothing where the help has been printed instead."""
    message = " ".join(problem.format_message().split())
    command = problem.ctx.command_path if getattr(problem, "ctx", None) else "toremi"
    if message and type(problem).__name__ != "NoArgsIsHelpError":
        console.error(f"{message.rstrip('.')}; see `{command} --help`")


if __name__ == "__main__":
    main()
