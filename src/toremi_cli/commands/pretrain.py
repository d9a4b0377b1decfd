"""`toremi pretrain`: train a language model on the annotated corpus, reweighting its topics."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands import policies
from toremi_cli.commands.common import Command, Json, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.train.config import PAPER, TrainConfig


def _of_run(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Run folder", metavar="")


class _Pretrain(Command):
    """Takes `--list-policies` with a name or without."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for index, argument in enumerate(args):
            if argument == "--list-policies" and (args[index + 1 :] or ["-"])[0].startswith("-"):
                args = [*args[: index + 1], policies.ALL, *args[index + 1 :]]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "pretrain", "Stages", cls=_Pretrain)
    @with_settings(TrainConfig, table="policy")
    def pretrain(
        ctx: typer.Context,
        given: Given,
        policy: policies.Policy = None,
        settings: policies.Settings = None,
        list_policies: Annotated[
            str | None,
            typer.Option(
                "--list-policies",
                metavar="[NAME]",
                rich_help_panel=policies.PANEL,
                help="Explain policy NAME, or list all.",
            ),
        ] = None,
        paper: Annotated[
            bool,
            typer.Option(
                "--paper",
                metavar="",
                rich_help_panel=policies.PANEL,
                help="The paper's form: toremi-2 on labels, the loss a mean over samples.",
            ),
        ] = False,
        resume: Annotated[bool, _of_run("Go on from the last whole checkpoint.", "--resume")] = False,
        overwrite: Annotated[bool, _of_run("Replace a run of this name.", "--overwrite")] = False,
        dry_run: Annotated[bool, _of_run("Print the plan and its needs; train nothing.", "--dry-run")] = False,
        as_json: Json = False,
        print_config: bool = False,
    ) -> None:
        """Train a language model on the annotated corpus, reweighting its topics.

        Writes to WORKDIR/runs/NAME while it runs: weights/ (topic weights by
        interval), metrics/, checkpoint-N/ in Hugging Face layout, config.toml.
        The same command again goes on where it stopped.

        Example: [bold]toremi pretrain --max-steps 600[/]

        The paper's form: [bold]toremi pretrain --paper --set alpha=0.5[/]

        A run again: [bold]toremi pretrain --config RUN/config.toml --name again[/]
        """
        if list_policies:
            policies.print_policies(list_policies, as_json)
            return
        from toremi_cli.train.needs import refuse_what_cannot_fit
        from toremi_cli.train.start import configure, plan_only, start_run

        values = {**given.file, **(PAPER if paper else {}), **given.flags}
        values["policy"] = policies.given_policy(values.get("policy", {}), policy, settings, given)
        if print_config:
            typer.echo(configure(values).to_toml(), nl=False)
        elif dry_run:
            plan = plan_only(values)
            console.print_json(plan) if as_json else _print_plan(plan)
            refuse_what_cannot_fit(plan, configure(values))
        else:
            outcome = start_run(values, resume=resume, overwrite=overwrite, debug=bool(ctx.params.get("debug")))
            _finish(outcome, as_json)


def _print_plan(plan: dict[str, Any]) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    for key, value in plan.items():
        if key != "sources":
            console.say(f"{key.replace('_', ' '):<24}{_shown(value)}")
    table = RichTable("source", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("samples", "tokens", "epochs"):
        table.add_column(heading, justify="right")
    for source in plan["sources"]:
        row = f"{source['num_samples']:,}", f"{source['num_tokens']:,}", f"{source['epochs']:.2f}"
        table.add_row(Text(source["source"]), *row)
    console.out.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _finish(outcome: dict[str, Any], as_json: bool) -> None:
    summary = outcome["summary"]  # the first rank's alone
    if summary and as_json:
        console.print_json(summary)
    elif summary:
        _print(summary)
    if outcome["signal"] and summary:
        console.note(
            f"stopped after step {summary['step']:,} of {summary['max_steps']:,}; "
            "go on with the same command and --resume"
        )
    if outcome["exit_code"]:
        raise typer.Exit(outcome["exit_code"])


def _print(summary: dict[str, Any]) -> None:
    line = f"{summary['checkpoint']}: train loss {summary['train_loss']:.4f}"
    if "validation_micro_loss" in summary:
        line += f", validation loss {summary['validation_micro_loss']:.4f}"
        line += f" (mean over sources {summary['validation_macro_loss']:.4f})"
    line += f", {summary['tokens_per_second']:,.0f} tokens/s"
    console.say(line + (f", {summary['mfu']:.0%} MFU" if "mfu" in summary else ""))
