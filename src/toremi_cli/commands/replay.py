"""`toremi replay`: a policy's weights from a table of losses, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands.common import Json, command
from toremi_cli.errors import UsageError

if TYPE_CHECKING:
    from toremi_cli.reweight import PolicyConfig

NUM_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "replay", "Tools")
    def replay(
        losses: Annotated[
            Path,
            typer.Argument(
                help="Parquet file or folder with columns step, topic, loss, num_samples: one row for each topic and "
                "interval. A run's weights folder is one."
            ),
        ],
        out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Parquet file to write the weights to.")],
        policy: Annotated[
            str,
            typer.Option(help="uniform, toremi-1, toremi-2, toremi, group-dro, odm, ado, random-weights."),
        ] = "toremi-2",
        rule: Annotated[str, typer.Option(help="multiplicative (the reference code) or additive (the paper).")] = (
            "multiplicative"
        ),
        alpha: Annotated[float, typer.Option(help="Step size of the update.")] = 1.0,
        w_min: Annotated[float, typer.Option(help="Lower bound of a weight.")] = 0.1,
        w_max: Annotated[float, typer.Option(help="Upper bound of a weight.")] = 5.0,
        stage_switch_step: Annotated[
            int | None,
            typer.Option(min=0, metavar="STEP", help="First step updated by stage 2. Without it, stage 1 throughout."),
        ] = None,
        settings: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="FIELD=VALUE", help="Any other setting of the policy; may be repeated."),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Compute a policy's weights from a table of losses, without training.

        Checks the arithmetic of a run, and tries other constants on a finished
        one. A topic whose row is missing, whose loss is null or whose
        num_samples is 0 counts as unseen: it keeps its weight. Sizes of topics,
        which some policies use, are taken to be equal.

        Example:
        [bold]toremi replay toremi-out/runs/NAME/weights --alpha 0.5 -o w.parquet[/]
        """
        from toremi_cli.replay import replay_table

        switch = "never" if stage_switch_step is None else f"step:{stage_switch_step}"
        bounds = {"w_min": w_min, "w_max": w_max}
        config = policy_config(settings or (), name=policy, rule=rule, alpha=alpha, stage_switch=switch, **bounds)
        summary = replay_table(losses, out, config)
        console.print_json(summary) if as_json else _print(summary)


def policy_config(settings: Sequence[str] = (), **options: Any) -> PolicyConfig:
    """A `PolicyConfig` from command-line values.

    Args:
        settings: `FIELD=VALUE` for any field.
        options: fields by name.

    Raises:
        UsageError: no such policy or field, or a value out of its range; names the flag.
    """
    from toremi_cli.reweight import POLICIES, PolicyConfig

    if options["name"] not in POLICIES:
        raise UsageError(f"--policy {options['name']}: no such policy; expected one of {', '.join(POLICIES)}")
    known = {field.name: field for field in fields(PolicyConfig) if field.name not in options}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise UsageError(f"--set {setting}: no such setting; expected FIELD=VALUE with one of {', '.join(known)}")
        options[name] = _parsed(setting, value, type(known[name].default))
    try:
        return PolicyConfig(**options)
    except ValueError as problem:
        name, _, rest = str(problem).partition(" ")
        raise UsageError(f"--{name.replace('_', '-')} {rest}") from None


def _parsed(setting: str, value: str, kind: type) -> Any:
    if kind is bool:
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise UsageError(f"--set {setting}: expected true or false")
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"--set {setting}: {value!r} is no {kind.__name__}") from None


def _print(summary: dict[str, Any]) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    weights = sorted(summary["weights"].items(), key=lambda item: (-item[1], item[0]))
    console.out.print(
        Text(f"{summary['policy']}: {summary['num_steps']} intervals, weights after step {summary['step']}"),
        Text(f"(stage {summary['stage']})"),
    )
    table = RichTable("topic", "weight", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for topic, weight in weights[:NUM_SHOWN]:
        table.add_row(Text(topic), f"{weight:.4f}")
    left_out = len(weights) - 2 * NUM_SHOWN
    if left_out > 0:
        table.add_row(Text(f"… {left_out} more"), "")
    for topic, weight in weights[max(NUM_SHOWN, len(weights) - NUM_SHOWN) :]:
        table.add_row(Text(topic), f"{weight:.4f}")
    console.out.print(table)
    console.note(f"written to {summary['out']}")
