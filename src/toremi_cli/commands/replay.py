"""`toremi replay`: a policy's weights from a table of losses, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands.common import Json, command
from toremi_cli.commands.policies import Policy, Settings, policy_config

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
        output: Annotated[
            Path, typer.Option("--output", "-o", metavar="FILE", help="Parquet file to write the weights to.")
        ],
        policy: Policy = None,
        settings: Settings = None,
        as_json: Json = False,
    ) -> None:
        """Compute a policy's weights from a table of losses, without training.

        Checks the arithmetic of a run, and tries other constants on a finished
        one. A topic whose row is missing, whose loss is null or whose
        num_samples is 0 counts as unseen: it keeps its weight. Sizes of topics,
        which some policies use, are taken to be equal. Stage 2 begins where
        stage_switch=step:N or fraction:F says so.

        Example:
        [bold]toremi replay RUN/weights -p toremi-2 --set alpha=0.5 -o w.parquet[/]
        """
        from toremi_cli.replay import replay_table

        summary = replay_table(losses, output, policy_config(policy, settings))
        console.print_json(summary) if as_json else _print(summary)


def _print(summary: dict[str, Any]) -> None:
    from rich.text import Text

    weights = sorted(summary["weights"].items(), key=lambda item: (-item[1], item[0]))
    console.out.print(
        Text(f"{summary['policy']}: {summary['num_steps']} intervals, weights after step {summary['step']}"),
        Text(f"(stage {summary['stage']})"),
    )
    table = console.table("topic", "weight")
    for topic, weight in weights[:NUM_SHOWN]:
        table.add_row(Text(topic), f"{weight:.4f}")
    left_out = len(weights) - 2 * NUM_SHOWN
    if left_out > 0:
        table.add_row(Text(f"… {left_out} more"), "")
    for topic, weight in weights[max(NUM_SHOWN, len(weights) - NUM_SHOWN) :]:
        table.add_row(Text(topic), f"{weight:.4f}")
    console.out.print(table)
    console.note(f"written to {summary['output']}")
