"""A policy and its settings on the command line: `--policy`, `--set`, and what explains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands.from_config import Given
from toremi_cli.errors import UsageError
from toremi_cli.policy_config import (
    POLICY_LIST,
    SHUFFLED,
    Listed,
    PolicyConfig,
    listed,
    policy_names,
    policy_settings,
    problem_of_policy,
    settings_read,
)
from toremi_cli.settings import settings_of

ALL = "all"
PANEL = "Reweighting"
Policy = Annotated[
    str | None,
    typer.Option(
        "--policy",
        "-p",
        metavar="NAME",
        rich_help_panel=PANEL,
        help=f"How weights change; see pretrain --list-policies [dim]\\[{PolicyConfig.name}][/]",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", rich_help_panel=PANEL, help="A setting of the policy; may be repeated."
    ),
]


def given_policy(
    table: Mapping[str, Any], name: str | None, settings: Sequence[str] | None, given: Given | None = None
) -> dict[str, Any]:
    """What was given of the policy: by a table, and over it by flags; those of another policy are left aside.

    Args:
        table: name and settings, from a config file.
        name: `--policy`.
        settings: `--set`, each NAME=VALUE.
        given: the config file itself, for errors.

    Raises:
        UsageError: a setting that the policy doesn't read, or a value out of range; names the file or the flag.
    """
    if given and (problem := problem_of_policy(given.file.get("policy", {}))):
        raise UsageError(f"{given.path}: [policy] {problem.removeprefix('--policy ')}")
    specs = settings_of(PolicyConfig)
    found = dict(table) if name in (None, table.get("name")) else {"name": name}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: expected NAME=VALUE; --list-policies NAME shows a policy's settings")
        try:
            found[key] = specs[key].read_text(value) if key in specs else value  # what isn't read is refused below
        except ValueError as wrong:
            raise UsageError(f"--set {setting}: {wrong}") from None
    if problem := problem_of_policy(found):
        raise UsageError(problem if problem.startswith("--policy") else f"--set {problem}")
    return found


def policy_config(name: str | None, settings: Sequence[str] | None = None) -> PolicyConfig:
    """A policy's settings from the command line.

    Raises:
        UsageError: no such policy or setting, or a value out of its range; names the flag.
    """
    return PolicyConfig(**policy_settings(given_policy({}, name, settings)))


def print_policies(name: str, as_json: bool) -> None:
    """List the policies, or explain the one of that name with the settings that it reads."""
    from rich.text import Text

    if name != ALL:
        _print_policy(name, as_json)
        return
    found = {name: POLICY_LIST.get(name) or _of_plugin(name) for name in policy_names()}
    if as_json:
        console.print_json({name: policy._asdict() for name, policy in found.items()})
        return
    table = console.table("policy", "acts on", "what it does")
    for name, policy in found.items():
        table.add_row(Text(name), Text(policy.acts_on), Text(policy.summary))
    console.out.print(table)


def _of_plugin(name: str) -> Listed:
    """What a plug-in says of itself, or why it can't."""
    try:
        return listed(name)
    except ValueError as problem:
        return Listed("", str(problem))


def _print_policy(name: str, as_json: bool) -> None:
    """What a policy does, and the settings that it reads."""
    from rich.text import Text

    try:
        policy, specs = listed(name), settings_of(PolicyConfig)
    except ValueError as problem:
        raise UsageError(str(problem).replace("--policy", "--list-policies")) from None
    read = [specs[key] for key in settings_read(name)]
    if as_json:
        console.print_json({**policy._asdict(), "settings": {s.name: s.written(s.default) for s in read}})
        return
    console.say(f"{name}: {policy.summary}\n")
    table = console.table("--set", "default", "")
    for spec in read:
        table.add_row(Text(spec.name), Text(spec.shown_default), Text(spec.help))
    console.out.print(table)
    if name == SHUFFLED:
        console.say("\nand those of the policy that it shuffles")
