"""`toremi weights`: the topic weights of a run, and how they got there, in the terminal."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command

COURSE_WIDTH = 24
BLOCKS = "▁▂▃▄▅▆▇█"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "weights", "Look")
    def weights(
        run: Annotated[str, typer.Argument(help="Name or path of a run, also of one that still trains.")],
        workdir: Workdir = DEFAULT_WORKDIR,
        top: Annotated[int, typer.Option("--top", "-n", min=0, help="Topics to show at most; 0: all.")] = 0,
        as_json: Json = False,
    ) -> None:
        """Print a run's topic weights and draw their course.

        The course of every topic is drawn on one logarithmic scale, from the
        lowest to the highest weight of the run: weights are factors. ↑ and ↓
        mark weights at a bound.

        Example: [bold]toremi weights toremi-2[/]
        """
        from toremi_cli import layout
        from toremi_cli.runs.run import find_runs
        from toremi_cli.runs.weights import summarize_weights

        (found,) = find_runs((run,), layout.Workdir(workdir))
        summary = summarize_weights(found)
        console.print_json(summary) if as_json else _print(found.name, summary, top)


def _print(name: str, summary: dict[str, Any], top: int) -> None:
    from rich.text import Text

    facts = f"{summary['policy']}, step {summary['step']:,} of {summary['max_steps']:,}, stage {summary['stage']}, "
    console.out.print(Text(f"{name}: {facts}{summary['num_intervals']} updates of {len(summary['topics'])} topics"))
    table = console.table("topic", numbers=("weight", "loss", "samples"))
    table.add_column(f"weight, {summary['low']:.3g} to {summary['high']:.3g}", no_wrap=True)
    for topic in summary["topics"][: top or None]:
        loss = "–" if topic["loss"] is None else f"{topic['loss']:.3f}"
        mark = {"w_min": " ↓", "w_max": " ↑"}.get(topic["at_bound"], "")
        drawn = sparkline(topic["course"], summary["low"], summary["high"])
        table.add_row(
            Text(topic["topic"], overflow="ellipsis"),
            f"{topic['weight']:.3f}{mark}",
            loss,
            f"{topic['num_samples']:,}",
            drawn,
        )
    console.out.print(table)
    left_out = len(summary["topics"]) - (top or len(summary["topics"]))
    if left_out > 0:
        console.out.print(f"… {left_out} more")


def sparkline(values: list[float], low: float, high: float, width: int = COURSE_WIDTH) -> str:
    """Values as a row of blocks, on a logarithmic scale from `low` to `high`; more than `width` are thinned evenly.

    Where `low` is not above zero, as where a topic is left out, the scale begins at a thousandth of `high`.
    """
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    least = max(low, high / 1000)
    if not high > least > 0:
        return BLOCKS[0] * len(values)
    span = math.log(high / least)
    return "".join(BLOCKS[round(math.log(max(v, least) / least) / span * (len(BLOCKS) - 1))] for v in values)
