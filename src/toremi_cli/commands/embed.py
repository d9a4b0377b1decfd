"""`toremi embed`: a corpus becomes samples, a tokenizer and vectors."""

from __future__ import annotations

from typing import Any

import typer

from toremi_cli import console, layout
from toremi_cli.commands import options
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.settings import to_toml
from toremi_cli.topics.config import EmbedConfig

SPLITS = ("train", "validation", "test")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "embed", "Stages")
    @with_settings(CorpusConfig, EmbedConfig)
    def embed(
        given: Given,
        corpus: options.CorpusArgument,
        workdir: Workdir = DEFAULT_WORKDIR,
        as_json: Json = False,
        print_config: bool = False,
    ) -> None:
        """Cut a corpus into samples, hold some out, and give each a vector.

        Writes the tables samples and embeddings and the tokenizer under --workdir.
        Run again, it redoes only what changed; flags not given stay as they were.

        Example: [bold]toremi embed corpus/ --max-tokens 512[/]
        """
        from toremi_cli.corpus.stage import build_samples
        from toremi_cli.stage import alone_in
        from toremi_cli.topics.embed import build_embeddings

        place, paths = layout.Workdir(workdir), options.paths_of(corpus)
        corpus_settings = options.corpus_config(options.previous_samples(place, paths), given)
        vector_settings = options.embed_config(options.previous_embeddings(place), given)
        if print_config:
            typer.echo(to_toml(corpus_settings, vector_settings), nl=False)
            return
        where = options.where_to_work(given)
        with alone_in(place):
            samples = build_samples(paths, place, corpus_settings, **where)
            embeddings = build_embeddings(place, vector_settings)
        result = _summary(samples, embeddings)
        console.print_json(result) if as_json else _print(result)


def _summary(samples: dict[str, Any], embeddings: dict[str, Any]) -> dict[str, Any]:
    counts = ("num_documents_read", "num_empty_texts", "num_skipped", "totals", "sources", "overlap")
    keys = ("corpus", "num_files", *counts)
    return {**{key: samples[key] for key in keys}, "num_shards": samples["num_shards"], "dim": embeddings["dim"]}


def _print(result: dict[str, Any]) -> None:
    table = console.table("source", numbers=("documents", "samples", "tokens", "MB", "held out", "duplicates"))
    for name, counts in sorted(result["sources"].items()):
        table.add_row(name, *_cells(counts, sum(counts["splits"][split]["samples"] for split in SPLITS[1:])))
    if len(result["sources"]) > 1:
        held_out = sum(c["splits"][split]["samples"] for c in result["sources"].values() for split in SPLITS[1:])
        table.add_row("all", *_cells(result["totals"], held_out), style="bold")
    console.out.print(table)
    overlap = result["overlap"]
    if overlap["num_samples"]:
        part = overlap["num_shared"] / overlap["num_samples"]
        console.out.print(f"held out, but mostly in the training text too: {part:.1%} of the samples")
    left_out = [f"{result[key]:,} {name}" for key, name in _LEFT_OUT if result[key]]
    if left_out:
        console.out.print("left out: " + ", ".join(left_out))


_LEFT_OUT = (("num_empty_texts", "documents without text"), ("num_skipped", "broken lines or files"))


def _cells(counts: dict[str, Any], held_out: int) -> list[str]:
    numbers = (counts["documents"], counts["samples"], counts["tokens"])
    return [*(f"{n:,}" for n in numbers), f"{counts['bytes'] / 1e6:,.1f}", f"{held_out:,}", f"{counts['duplicates']:,}"]
