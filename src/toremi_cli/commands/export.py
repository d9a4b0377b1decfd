"""`toremi export`: what a run has learnt, for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toremi_cli import console, layout
from toremi_cli.commands import options
from toremi_cli.commands.common import DEFAULT_WORKDIR, Workdir, command
from toremi_cli.errors import UsageError

if TYPE_CHECKING:
    from toremi_cli.export.shares import Mixture, SampleWeigher


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "export", "Tools")
    def export(
        runs: Annotated[
            list[str] | None,
            typer.Argument(metavar="[RUN]", help="Name or path of the run, several for olmix; or see --policy."),
        ] = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        to: Annotated[
            str,
            typer.Option(
                metavar="FORM",
                help="json, yaml, weights, corpus, tokens, olmix; mosaicml, olmo-core, megatron, nanotron.",
            ),
        ] = "json",
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", metavar="PATH", help="File, or folder of a corpus; else stdout."),
        ] = None,
        weights: Annotated[
            str, typer.Option(metavar="final|mean", help="The last weights, or their mean over the run.")
        ] = "final",
        policy: Annotated[
            str, typer.Option(metavar="NAME", help="Without a run: stratified, temperature or uniform.")
        ] = "",
        topics: Annotated[
            str, typer.Option(metavar="labels|fine|soft|source", help="Without a run: what a sample's topics are.")
        ] = "labels",
        settings: Annotated[
            list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="A setting of --policy; repeatable.")
        ] = None,
        by: Annotated[
            str,
            typer.Option(
                metavar="source|topic", help="What a config's parts are (source), or a corpus's folders (none)."
            ),
        ] = "",
        data_path: Annotated[
            str, typer.Option(metavar="PATTERN", help="Where a part's data is, such as 'bin/{name}'; {name}: the part.")
        ] = "",
        tokens: Annotated[
            str, typer.Option(metavar="N", help="Size of the corpus, e.g. 2.6B; default: that of the original.")
        ] = "",
        file_format: Annotated[
            str,
            typer.Option(
                "--format", metavar="NAME", help="jsonl.zst or parquet for a corpus; megatron or numpy for tokens."
            ),
        ] = "",
        seed: Annotated[int, typer.Option(metavar="N", help="Decides which samples the corpus has.")] = 0,
    ) -> None:
        """Use a run's topic weights, or a policy's by size alone, elsewhere.

        As a mixture file (json, yaml: shares of topics and sources), as a table
        of weights for another run (weights: see pretrain --policy frozen), as a
        corpus resampled by them, or as the data part of other trainers' configs;
        the corpus itself as their token files (tokens; needs no run).
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
        from toremi_cli.export.corpus import write_corpus
        from toremi_cli.export.formats import missing_data, render
        from toremi_cli.files import atomic_file

        place = layout.Workdir(workdir)
        if to == "olmix":
            console.print_json(_swarm(place, runs or [], by or "source", output))
            return
        if runs and len(runs) > 1:
            raise UsageError(f"--to {to}: one run, not {len(runs)}; several are for --to olmix")
        run = runs[0] if runs else ""
        if to == "tokens":
            where = _named(output, "--to tokens: name its folder with --output")
            console.print_json(_token_files(place, run, topics, by or "source", file_format or "megatron", where))
            return
        if bool(run) == bool(policy):
            raise UsageError("export: name either a run or a policy that goes by sizes, such as --policy stratified")
        if to == "weights":
            file = _named(output, "--to weights: name its file with --output")
            console.print_json(_weights_table(place, run, weights, file))
            return
        folder = _named(output, "--to corpus: name its folder with --output") if to == "corpus" else None
        mixture, weigher = _mixture(place, run, weights, policy, topics, settings or [])
        if folder is not None:
            size = options.token_count(tokens) if tokens else 0.0
            console.print_json(write_corpus(mixture, weigher, folder, size, file_format or "jsonl.zst", seed, by))
            return
        text = render(mixture, to, by or "source", data_path)
        missing = missing_data(mixture, to, by or "source", data_path)
        if missing:
            console.warn(
                f"--to {to}: nothing is at {missing[0]} yet ({len(missing)} such in all); "
                "tokenize these parts, or say where they are with --data-path"
            )
        if output is None:
            typer.echo(text, nl=False)
            return
        with atomic_file(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
        console.note(f"wrote {output}")


def _swarm(place: layout.Workdir, names: list[str], by: str, output: Path | None) -> dict[str, Any]:
    from toremi_cli.export.swarm import write_swarm
    from toremi_cli.runs.history import find_recorded_runs, read_history

    out = _named(output, "--to olmix: name its folder with --output")
    return write_swarm([read_history(run) for run in find_recorded_runs(names, place)], place, by, out)


def _token_files(place: layout.Workdir, run: str, topics: str, by: str, form: str, out: Path) -> dict[str, Any]:
    from toremi_cli.export.token_files import write_tokens
    from toremi_cli.policy_config import TOPIC_MODES
    from toremi_cli.runs.run import find_runs
    from toremi_cli.sample_topics import SampleTopics

    if topics not in TOPIC_MODES:
        raise UsageError(f"--topics {topics}: expected one of {', '.join(TOPIC_MODES)}")
    annotated = place.annotated
    if run:
        (found,) = find_runs((run,), place)
        topics, annotated = found.topic_mode, found.annotated(place)
    return write_tokens(annotated, SampleTopics(topics, place.topics), place.tokenizer, by, form, out)


def _weights_table(place: layout.Workdir, run: str, which: str, out: Path) -> dict[str, Any]:
    from toremi_cli.export.weights import write_weights
    from toremi_cli.runs.history import read_history
    from toremi_cli.runs.run import find_runs

    if not run:
        raise UsageError("--to weights: a run's; `toremi pretrain` has the policies that go by sizes itself")
    (found,) = find_runs((run,), place)
    return write_weights(read_history(found), which, out)


def _mixture(
    place: layout.Workdir, run: str, which: str, policy: str, topics: str, settings: list[str]
) -> tuple[Mixture, SampleWeigher]:
    from toremi_cli.commands.policies import policy_config
    from toremi_cli.export.shares import build_mixture, static_mixture
    from toremi_cli.policy_config import TOPIC_MODES
    from toremi_cli.runs.history import read_history
    from toremi_cli.runs.run import find_runs

    if run:
        (found,) = find_runs((run,), place)
        return build_mixture(read_history(found), place, which)
    if topics not in TOPIC_MODES:
        raise UsageError(f"--topics {topics}: expected one of {', '.join(TOPIC_MODES)}")
    return static_mixture(policy_config(policy, settings), topics, place)


def _named(out: Path | None, otherwise: str) -> Path:
    if out is None:
        raise UsageError(otherwise)
    return out
