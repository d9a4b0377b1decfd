"""`toremi export`: what a run has learnt, for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toremi_cli import console
from toremi_cli.commands import options
from toremi_cli.commands.common import DEFAULT_WORKDIR, Workdir, command
from toremi_cli.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "export", "Tools")
    def export(
        run: Annotated[str, typer.Argument(metavar="RUN", help="Name or path of the run.")],
        workdir: Workdir = DEFAULT_WORKDIR,
        to: Annotated[
            str,
            typer.Option(metavar="FORM", help="json, yaml, weights, corpus; mosaicml, olmo-core, megatron, nanotron."),
        ] = "json",
        out: Annotated[
            Path | None, typer.Option("--out", "-o", metavar="PATH", help="File, or folder of a corpus; else stdout.")
        ] = None,
        weights: Annotated[
            str, typer.Option(metavar="final|mean", help="The last weights, or their mean over the run.")
        ] = "final",
        by: Annotated[str, typer.Option(metavar="source|topic", help="What a config's parts are.")] = "source",
        data_path: Annotated[
            str, typer.Option(metavar="PATTERN", help="Where a part's data is, such as 'bin/{name}'; {name}: the part.")
        ] = "",
        tokens: Annotated[
            str, typer.Option(metavar="N", help="Size of the corpus, e.g. 2.6B; default: that of the original.")
        ] = "",
        file_format: Annotated[
            str, typer.Option("--format", metavar="parquet|jsonl.zst", help="Files of the corpus.")
        ] = "jsonl.zst",
        seed: Annotated[int, typer.Option(metavar="N", help="Decides which samples the corpus has.")] = 0,
    ) -> None:
        """Use a run's topic weights elsewhere.

        As a mixture file (json, yaml: shares of topics and sources), as a table
        of weights for another run (weights: see pretrain --policy frozen), as a
        corpus resampled by them, or as the data part of other trainers' configs.
        A share is that of the training tokens, times their weights.

        Example: [bold]toremi export toremi-2 --to yaml[/]

        Example: [bold]toremi export toremi-2 --to corpus --tokens 10B -o mix/[/]

        Example: [bold]toremi export proxy --to weights --weights mean -o w.parquet[/]

        Example:
        [bold]toremi export toremi-2 --to megatron --data-path 'bin/{name}'[/]
        prints --data-path 0.312500 bin/code 0.687500 bin/web
        """
        from toremi_cli import layout
        from toremi_cli.export.corpus import write_corpus
        from toremi_cli.export.formats import render
        from toremi_cli.export.shares import build_mixture
        from toremi_cli.export.weights import write_weights
        from toremi_cli.runs.history import read_history
        from toremi_cli.runs.run import find_runs
        from toremi_cli.tables import atomic_file

        place = layout.Workdir(workdir)
        (found,) = find_runs((run,), place)
        history = read_history(found)
        if to == "weights":
            console.print_json(write_weights(history, weights, _named(out, "--to weights: name its file with --out")))
            return
        mixture, weigher = build_mixture(history, place, weights)
        if to == "corpus":
            folder = _named(out, "--to corpus: name its folder with --out")
            size = options.token_count(tokens) if tokens else 0.0
            facts = write_corpus(mixture, weigher, folder, size, file_format, seed)
            console.print_json(facts)
            return
        text = render(mixture, to, by, data_path)
        if out is None:
            typer.echo(text, nl=False)
            return
        with atomic_file(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
        console.note(f"wrote {out}")


def _named(out: Path | None, otherwise: str) -> Path:
    if out is None:
        raise UsageError(otherwise)
    return out
