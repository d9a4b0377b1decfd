"""`toremi sample`: a mixture of sources by token targets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands import options
from toremi_cli.commands.common import Json, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.errors import UsageError

READING = ("text_field", "source_field", "id_field", "group_field", "ext", "on_error")

Ratios = Annotated[str, typer.Option("--ratios", metavar="SOURCE:SHARE,…", help="Share of each source in the tokens.")]
Tokens = Annotated[
    str, typer.Option("--tokens", metavar="N,…", help="Token targets, e.g. 2.6B,7.2B; each contains the smaller.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write; with several targets, a folder each.")
]
Short = Annotated[
    str,
    typer.Option(
        "--short", metavar="leave|redistribute", help="What becomes of the share that a source is too small to fill."
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="PATH|NAME",
        help="Count tokens exactly with this one [dim]\\[estimated from bytes by source][/]",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Decides which documents are taken.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "sample", "Tools")
    @with_settings(CorpusConfig, only=READING)
    def sample(
        given: Given,
        corpus: options.CorpusArgument,
        ratios: Ratios,
        tokens: Tokens,
        output: Output,
        short: Short = "leave",
        tokenizer: Tokenizer = None,
        seed: Seed = 0,
        as_json: Json = False,
    ) -> None:
        """Draw a mixture of sources by token targets.

        Takes whole documents, at random by the seed, and streams them twice.
        Writes jsonl.zst with id, source and text (and group, with --group-field),
        which toremi embed reads.

        Example:
        [bold]toremi sample corpus/ --ratios code:0.2,web:0.8 --tokens 2M,5M -o mix[/]
        """
        from toremi_cli.corpus.mixture import MixtureConfig, build_mixture

        config = MixtureConfig(
            ratios=parse_ratios(ratios), tokens=parse_targets(tokens), short=short, seed=seed, tokenizer=tokenizer
        )
        reading = options.corpus_config(None, given)
        record = build_mixture(options.paths_of(corpus), output, config, reading)
        console.print_json(record) if as_json else _print(record)


def parse_ratios(text: str) -> dict[str, float]:
    """'books:0.2,web:0.8' as a mapping. A source's name may hold colons.

    Raises:
        UsageError: not of this form, or a source named twice.
    """
    ratios: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.rpartition(":")
        try:
            ratio = float(value)
        except ValueError:
            ratio = math.nan
        if not name or not math.isfinite(ratio) or ratio <= 0:
            raise UsageError(f"--ratios: {part!r} is not SOURCE:SHARE with a share above 0, such as web:0.8")
        if name in ratios:
            raise UsageError(f"--ratios: source {name!r} stands there twice")
        ratios[name] = ratio
    return ratios


def parse_targets(text: str) -> dict[str, float]:
    """'2.6B,7.2B' as numbers of tokens by their names.

    Raises:
        UsageError: not a number.
    """
    names = filter(None, (part.strip() for part in text.split(",")))
    return {name: options.token_count(name) for name in names}


def _print(record: dict[str, Any]) -> None:
    from rich.table import Table as RichTable

    about = "≈" if record["tokens_are"] == "estimated" else ""
    for name, mixture in record["mixtures"].items():
        table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(name, overflow="fold")
        for column in ("documents", "tokens", "share", "wanted", "available"):
            table.add_column(column, justify="right", no_wrap=True)
        total = sum(facts["tokens"] for facts in mixture.values())
        wanted = sum(facts["wanted_tokens"] for facts in mixture.values())
        for source, facts in mixture.items():
            numbers = [f"{about}{facts[key]:,}" for key in ("wanted_tokens", "available_tokens")]
            share = f"{facts['tokens'] / total:.1%}"
            table.add_row(source, f"{facts['documents']:,}", f"{about}{facts['tokens']:,}", share, *numbers)
        documents = sum(facts["documents"] for facts in mixture.values())
        table.add_row("all", f"{documents:,}", f"{about}{total:,}", "", f"{about}{wanted:,}", "", style="bold")
        console.out.print(table)
