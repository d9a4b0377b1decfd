"""`toremi export`: what a run has learnt, for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toremi_cli import console, layout
from toremi_cli.commands.common import DEFAULT_WORKDIR, Workdir, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.commands.policies import PANEL, Settings, given_policy
from toremi_cli.corpus.config import token_count
from toremi_cli.errors import UsageError
from toremi_cli.export.config import ExportConfig
from toremi_cli.files import atomic_file
from toremi_cli.policy_config import PolicyConfig, policy_settings
from toremi_cli.settings import filled

if TYPE_CHECKING:
    from toremi_cli.export.shares import Mixture, SampleWeigher


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "export", "Tools")
    @with_settings(ExportConfig, table="policy")
    def export(
        given: Given,
        runs: Annotated[
            list[str] | None,
            typer.Argument(metavar="[RUN]", help="Name or path of the run, several for olmix; or see --policy."),
        ] = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", metavar="PATH", help="File, or folder of a corpus; else stdout."),
        ] = None,
        policy: Annotated[
            str | None,
            typer.Option(
                "--policy",
                metavar="NAME",
                rich_help_panel=PANEL,
                help="One that goes by sizes: stratified, temperature, uniform.",
            ),
        ] = None,
        settings: Settings = None,
    ) -> None:
        """Use a run's topic weights, or a policy's by size alone, elsewhere.

        As a mixture file (json, yaml: shares of topics and sources), as a table
        of weights for another run (weights: see pretrain --policy frozen), as a
        corpus resampled by them, or as the data part of other trainers' configs;
        the corpus itself as their token files (tokens; needs no run). hf puts
        together the models of checkpoints that several ranks wrote in shards.
        A share is that of the training tokens, times their weights.

        Example: [bold]toremi export toremi-2 --to yaml[/]

        Example: [bold]toremi export --policy stratified --topics fine --to yaml[/]

        Example: [bold]toremi export toremi-2 --to corpus --tokens 10B -o mix/[/]

        Example: [bold]toremi export proxy --to weights --weights mean -o w.parquet[/]

        Runs as CSV for olmix: [bold]toremi export --to olmix -o swarm/[/]

        Example:
        [bold]toremi export toremi-2 --to megatron --data-path 'bin/{name}'[/]
        prints --data-path 0.3125 bin/code 0.6875 bin/web
        """
        config, place = ExportConfig(**filled(ExportConfig, given)), layout.Workdir(workdir)
        by_size = given_policy(given.get("policy", {}), policy, settings, given)
        written = _written(config, place, runs or [], by_size, output)
        if written is not None:
            console.print_json(written)
            return
        text = _text(config, _mixture(config, place, runs or [], by_size)[0])
        if output is None:
            typer.echo(text, nl=False)
            return
        with atomic_file(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
        console.note(f"wrote {output}")


def _written(
    config: ExportConfig, place: layout.Workdir, runs: list[str], policy: dict[str, Any], output: Path | None
) -> dict[str, Any] | None:
    """Write what goes to files of its own, and say what was written; None for a text.

    Raises:
        UsageError: the files have no place, or no run or policy decides what goes there.
    """
    if config.to == "olmix":
        return _swarm(config, place, runs, _named(output, "olmix", "folder"))
    if len(runs) > 1:
        raise UsageError(f"--to {config.to}: one run, not {len(runs)}; several are for --to olmix")
    if config.to == "hf":
        return _models(config, place, runs, output)
    if config.to == "tokens":
        return _token_files(config, place, runs, _named(output, "tokens", "folder"))
    if bool(runs) == bool(policy):
        raise UsageError("export: name either a run or a policy that goes by sizes, such as --policy stratified")
    if config.to == "weights":
        return _weights_table(config, place, runs, _named(output, "weights", "file"))
    if config.to == "corpus":
        return _corpus(config, place, runs, policy, _named(output, "corpus", "folder"))
    return None


def _text(config: ExportConfig, mixture: Mixture) -> str:
    """The mixture as a file, or as part of a trainer's configuration."""
    from toremi_cli.export.formats import missing_data, render

    form = (mixture, config.to, config.by or "source", config.data_path or "")
    text, missing = render(*form), missing_data(*form)
    if missing:
        console.warn(
            f"--to {config.to}: nothing is at {missing[0]} yet ({len(missing)} such in all); "
            "tokenize these parts, or say where they are with --data-path"
        )
    return text


def _corpus(
    config: ExportConfig, place: layout.Workdir, runs: list[str], policy: dict[str, Any], out: Path
) -> dict[str, Any]:
    from toremi_cli.export.corpus import write_corpus

    size = token_count(config.tokens) if config.tokens else 0.0
    form = config.file_format or "jsonl.zst"
    return write_corpus(*_mixture(config, place, runs, policy), out, size, form, config.seed, config.by or "")


def _swarm(config: ExportConfig, place: layout.Workdir, names: list[str], out: Path) -> dict[str, Any]:
    from toremi_cli.export.swarm import write_swarm
    from toremi_cli.runs.history import find_recorded_runs, read_history

    histories = [read_history(run) for run in find_recorded_runs(names, place)]
    return write_swarm(histories, place, config.by or "source", out)


def _models(config: ExportConfig, place: layout.Workdir, runs: list[str], output: Path | None) -> dict[str, Any]:
    from toremi_cli.runs.run import find_runs
    from toremi_cli.train.hf_layout import put_together

    if output is not None or not runs:
        raise UsageError("--to hf: name a run, and no --output: the models go into its checkpoints")
    (found,) = find_runs(runs, place)
    checkpoints = found.checkpoints()
    put_together(checkpoints)
    return {"run": found.name, "models": [str(checkpoint.folder) for checkpoint in checkpoints]}


def _token_files(config: ExportConfig, place: layout.Workdir, runs: list[str], out: Path) -> dict[str, Any]:
    from toremi_cli.export.token_files import write_tokens
    from toremi_cli.runs.run import find_runs
    from toremi_cli.sample_topics import SampleTopics

    topics, annotated = config.topics, place.annotated
    if runs:
        (found,) = find_runs(runs, place)
        topics, annotated = found.topic_mode, found.annotated(place)
    by, form = config.by or "source", config.file_format or "megatron"
    return write_tokens(annotated, SampleTopics(topics, place.topics, annotated), place.tokenizer, by, form, out)


def _weights_table(config: ExportConfig, place: layout.Workdir, runs: list[str], out: Path) -> dict[str, Any]:
    from toremi_cli.export.weights import write_weights
    from toremi_cli.runs.history import read_history
    from toremi_cli.runs.run import find_runs

    if not runs:
        raise UsageError("--to weights: a run's; `toremi pretrain` has the policies that go by sizes itself")
    (found,) = find_runs(runs, place)
    return write_weights(read_history(found), config.weights, out, place)


def _mixture(
    config: ExportConfig, place: layout.Workdir, runs: list[str], policy: dict[str, Any]
) -> tuple[Mixture, SampleWeigher]:
    from toremi_cli.export.shares import mixture_of, static_mixture
    from toremi_cli.runs.history import read_history
    from toremi_cli.runs.run import find_runs

    if runs:
        (found,) = find_runs(runs, place)
        return mixture_of(read_history(found), place, config.weights)
    return static_mixture(PolicyConfig(**policy_settings(policy)), config.topics, place)


def _named(output: Path | None, form: str, what: str) -> Path:
    if output is None:
        raise UsageError(f"--to {form}: name its {what} with --output")
    return output
