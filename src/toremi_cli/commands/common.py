"""What every command shares: its registration, `--quiet` and `--debug`, and the way errors reach the user."""

from __future__ import annotations

import errno
import functools
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from toremi_cli import console
from toremi_cli.caches import ensure_writable_caches
from toremi_cli.errors import ToremiError, reason

INTERRUPTED_EXIT_CODE = 130
DEFAULT_WORKDIR = Path("toremi-out")
_NUMPY_SHORT_WRITE = re.compile(r"^\d+ requested and \d+ written$")
"""How numpy says that the disk is full, without an errno."""

F = TypeVar("F", bound=Callable[..., Any])

Workdir = Annotated[
    Path, typer.Option("--workdir", "-w", metavar="DIR", help="Folder of all tables and runs.", show_default=True)
]
Runs = Annotated[list[str] | None, typer.Argument(metavar="[RUN…]", help="Names or paths; none: every run.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print the result as JSON on stdout.")]
_Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", metavar="", help="Only results, errors and warnings about what a table holds.")
]
_Debug = Annotated[bool, typer.Option("--debug", metavar="", help="On an error, print the full traceback.")]


def _show_all(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        for parameter in ctx.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]
        typer.echo(ctx.get_help())
        raise typer.Exit


_HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        metavar="",
        is_eager=True,
        callback=_show_all,
        help="Show rare options, too, and exit; each on-off flag has its --no-.",
    ),
]


class Command(TyperCommand):
    """A command whose help names an on-off flag once."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        for parameter in self.get_params(ctx):
            if "[true]" in (getattr(parameter, "help", None) or ""):
                parameter.opts = [parameter.opts[0].replace("--", "--[no-]", 1)]
            parameter.secondary_opts = []
            if parameter.name == "help":
                parameter.metavar = ""
        super().format_help(ctx, formatter)


def command(app: typer.Typer, name: str, panel: str | None = None, cls: type[Command] = Command) -> Callable[[F], F]:
    """Register a function as the command `name`, with the shared flags and error handling."""

    def register(function: F) -> F:
        @functools.wraps(function)
        def wrapper(
            *args: Any, quiet: bool = False, debug: bool = False, help_all: bool = False, **kwargs: Any
        ) -> None:
            console.set_quiet(quiet)
            ensure_writable_caches()
            run_guarded(functools.partial(function, *args, **kwargs), debug)

        wrapper.__signature__ = _with_shared_flags(function)  # type: ignore[attr-defined]
        app.command(name, rich_help_panel=panel, cls=cls)(wrapper)
        return function

    return register


def _with_shared_flags(function: Callable[..., Any]) -> inspect.Signature:
    # Types are resolved here, where the command's own module globals are at hand.
    signature = inspect.signature(function, eval_str=True)
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in (("quiet", _Quiet), ("debug", _Debug), ("help_all", _HelpAll))
        if name != "help_all" or any(_is_hidden(p.annotation) for p in signature.parameters.values())
    ]
    return signature.replace(parameters=[*signature.parameters.values(), *flags])


def _is_hidden(annotation: Any) -> bool:
    return any(getattr(option, "hidden", False) for option in getattr(annotation, "__metadata__", ()))


def run_guarded(action: Callable[[], Any], debug: bool) -> None:
    """Run a command's body; turn what goes wrong into one line on stderr and an exit code."""
    try:
        action()
    except KeyboardInterrupt:
        console.error("interrupted; nothing written so far is lost: run the same command again to go on")
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our stdout has gone (`| head`): no complaint
        raise typer.Exit(0) from None
    except typer.Exit:
        raise
    except Exception as problem:
        if debug:
            raise
        console.error(_one_line(problem))
        raise typer.Exit(problem.exit_code if isinstance(problem, ToremiError) else 1) from None


def _one_line(problem: Exception) -> str:
    if isinstance(problem, ToremiError):
        return str(problem)
    if isinstance(problem, OSError) and (problem.errno == errno.ENOSPC or _NUMPY_SHORT_WRITE.search(str(problem))):
        return f"{problem.filename or 'disk'}: no space left on the device; free some and run the same command again"
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    return (
        f"{type(problem).__name__}: {reason(problem, 500)} (a bug in toremi? run again with --debug for the traceback)"
    )
