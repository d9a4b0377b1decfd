"""Options made from settings, `--config` and `--print-config`.

A flag that isn't given is None, and its default stands in the help: so a config file, or the table of a run before, can
say what the command line doesn't.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from toremi_cli.errors import UsageError, reason
from toremi_cli.settings import Spec, one_each


class Given(dict[str, Any]):
    """The settings that a command was given, by their keys."""

    def __init__(self, flags: Mapping[str, Any], file: Mapping[str, Any], path: Path | None) -> None:
        super().__init__({**file, **flags})
        self.flags, self.file = dict(flags), dict(file)
        self.path = path
        """The config file, if there is one."""


F = TypeVar("F", bound=Callable[..., Any])

CONFIG_PANEL = "Settings"
_Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", rich_help_panel=CONFIG_PANEL, help="Settings from a TOML file; flags win over it."
    ),
]
_PrintConfig = Annotated[
    bool,
    typer.Option(
        "--print-config", metavar="", rich_help_panel=CONFIG_PANEL, help="Print all settings as such a file, and exit."
    ),
]


def with_settings(*kinds: type, table: str | None = None, only: tuple[str, ...] | None = None) -> Callable[[F], F]:
    """Give a command the settings of dataclasses as options, in the place of its parameter `given`.

    The command is called with `given`, those that flags or the config file set. It may have a parameter
    `print_config`, too.

    Args:
        kinds: the dataclasses; what the first has no default for must be given.
        table: name of a table of the config file that the command checks itself.
        only: keys, where not all are wanted.
    """
    specs = {key: spec for key, spec in one_each(kinds).items() if only is None or key in only}
    needed = [key for key in one_each(kinds[:1]) if key in specs and specs[key].default is MISSING]

    def decorate(function: F) -> F:
        signature = inspect.signature(function, eval_str=True)
        own = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, p in signature.parameters.items()
            if name not in ("given", "print_config")
        ]
        takes_print = "print_config" in signature.parameters

        @functools.wraps(function)
        def wrapper(*args: Any, config: Path | None = None, print_config: bool = False, **values: Any) -> None:
            texts = {key: values.pop(key, None) for key in specs}
            file = {} if config is None else read_config(config, specs, table)
            flags = {key: read_flag(specs[key], text) for key, text in texts.items() if text is not None}
            if takes_print:
                values["print_config"] = print_config
            given = Given(flags, file, config)
            if missing := [key for key in needed if key not in given]:
                spec = specs[missing[0]]
                raise UsageError(f"{spec.flags[0]}: needed ({spec.help}); give it, or {missing[0]} in a --config FILE")
            function(*args, given=given, **values)

        shared = [_parameter("config", _Config, None)]
        if takes_print:
            shared.append(_parameter("print_config", _PrintConfig, False))
        options = [_parameter(key, _option(spec, key in needed), None) for key, spec in specs.items()]
        panels = list(dict.fromkeys(spec.setting.panel for spec in specs.values()))
        wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=sorted([*own, *options, *shared], key=lambda p: _place(p, panels))
        )
        return wrapper  # type: ignore[return-value]

    return decorate


def _place(parameter: inspect.Parameter, panels: list[str]) -> int:
    """Where an option stands in the help: in the order of the settings' panels, what has none of these around them."""
    panel = next((o.rich_help_panel for o in getattr(parameter.annotation, "__metadata__", ())), None)
    if panel == CONFIG_PANEL:
        return len(panels)
    return panels.index(panel) if panel in panels else -1


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(spec: Spec, needed: bool) -> Any:
    """A setting as typer wants it: numbers come as text, and are read where those of config files are."""
    flags = spec.flags
    if spec.kind is bool:
        flags = [f"{flags[0]}/--no-{flags[0].removeprefix('--')}", *flags[1:]]
    default = "" if spec.shown_default in ("false", "none") else f" [dim]\\[{spec.shown_default}][/]"
    if needed:
        default = " [red]\\[required][/]"
    option = typer.Option(
        *flags,
        help=f"{spec.help}{default}",
        metavar=spec.metavar,
        rich_help_panel=spec.setting.panel or None,
        hidden=spec.setting.rare,
        show_default=False,
    )
    return Annotated[bool | None if spec.kind is bool else str | None, option]


def read_flag(spec: Spec, text: str | bool) -> Any:
    """A setting from what its flag was given.

    Raises:
        UsageError: not what it may be.
    """
    try:
        return spec.read_text(text)
    except ValueError as problem:
        raise UsageError(f"{spec.flags[0]} {text}: {problem}") from None


def read_config(path: Path, specs: Mapping[str, Spec], table: str | None = None) -> dict[str, Any]:
    """The settings in a TOML file by their keys, and the one table that is allowed.

    Raises:
        UsageError: no TOML, a key that is no setting, or a value that is none of its; names file and key.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageError(f"--config {path}: cannot be read as TOML ({reason(problem)})") from None
    given = {}
    for key, value in found.items():
        if key == table:
            if not isinstance(value, dict):
                raise UsageError(f"{path}: {key} = {value!r}: expected a table, [{key}] with a line for each setting")
            given[key] = value
        elif key not in specs:
            near = difflib.get_close_matches(key, [*specs, *filter(None, [table])], 1)
            hint = f"did you mean {near[0]}?" if near else "--print-config shows all that there are"
            raise UsageError(f"{path}: {key}: no such setting; {hint}")
        else:
            try:
                given[key] = specs[key].read(value)
            except ValueError as problem:
                raise UsageError(f"{path}: {key} = {value!r}: {problem}") from None
    return given
