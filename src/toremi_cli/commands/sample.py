"""`toremi sample`: a smaller corpus, or a mixture of sources, by token targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands import options
from toremi_cli.commands.common import Json, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.corpus.config import CorpusConfig, MixtureConfig
from toremi_cli.settings import filled, settings_of

DRAWING = tuple(spec.key for spec in settings_of(MixtureConfig).values())
READING = ("text_field", "source_field", "id_field", "group_field", "ext", "on_error")

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write; with several targets, a folder each.")
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "sample", "Tools")
    @with_settings(MixtureConfig, CorpusConfig, only=(*DRAWING, *READING))
    def sample(
        given: Given,
        corpus: options.CorpusArgument,
        output: Output,
        as_json: Json = False,
    ) -> None:
        """Draw a smaller corpus, or a mixture of sources, by token targets.

        Takes whole documents, at random by the seed, and streams them twice.
        Writes jsonl.zst with id, source and text (and group, with --group-field),
        which toremi embed reads.

        Example:
        [bold]toremi sample corpus/ --tokens 2M -o part[/]
        [bold]toremi sample corpus/ --ratios code:0.2,web:0.8 --tokens 2M,5M -o mix[/]
        """
        from toremi_cli.corpus.mixture import build_mixture

        config = MixtureConfig(**filled(MixtureConfig, given))
        reading = options.corpus_config(None, {key: given[key] for key in READING if key in given})
        record = build_mixture(options.paths_of(corpus), output, config, reading)
        console.print_json(record) if as_json else _print(record)


def _print(record: dict[str, Any]) -> None:
    about = "≈" if record["tokens_are"] == "estimated" else ""
    for name, mixture in record["mixtures"].items():
        table = console.table(name, numbers=("documents", "tokens", "share", "wanted", "available"))
        total = sum(facts["tokens"] for facts in mixture.values())
        wanted = sum(facts["wanted_tokens"] for facts in mixture.values())
        for source, facts in mixture.items():
            numbers = [f"{about}{facts[key]:,}" for key in ("wanted_tokens", "available_tokens")]
            share = f"{facts['tokens'] / total:.1%}"
            table.add_row(source, f"{facts['documents']:,}", f"{about}{facts['tokens']:,}", share, *numbers)
        if len(mixture) > 1:
            documents = sum(facts["documents"] for facts in mixture.values())
            table.add_row("all", f"{documents:,}", f"{about}{total:,}", "", f"{about}{wanted:,}", "", style="bold")
        console.out.print(table)
