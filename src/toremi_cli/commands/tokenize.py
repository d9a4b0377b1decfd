"""`toremi tokenize`: the annotated corpus as tokens, before anything trains on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from toremi_cli import console, layout
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.settings import filled, to_toml
from toremi_cli.train.token_config import TokenizeConfig

if TYPE_CHECKING:
    from toremi_cli.layout import Workdir as Layout


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "tokenize", "Tools")
    @with_settings(TokenizeConfig)
    def tokenize(
        given: Given, workdir: Workdir = DEFAULT_WORKDIR, as_json: Json = False, print_config: bool = False
    ) -> None:
        """Make tokens of the annotated corpus, for all runs that train on it.

        Works on shards in all cores or on a Ray cluster; interrupted, it goes on.
        [bold]toremi pretrain[/] does it by itself where tokens are missing.

        Example: [bold]toremi tokenize --workers 16[/]

        For machines that share no disk: [bold]toremi tokenize -o s3://bucket/tokens[/]
        """
        settings = TokenizeConfig(**filled(TokenizeConfig, given))
        if print_config:
            typer.echo(to_toml(settings), nl=False)
            return
        make_tokens(layout.Workdir(workdir), settings, as_json)


def make_tokens(place: Layout, settings: TokenizeConfig, as_json: bool) -> None:
    """Make the tokens, where they aren't there, and say how many there are."""
    from toremi_cli.train.token_table import copy_token_table
    from toremi_cli.train.tokens import open_cache

    annotated = Path(settings.annotated) if settings.annotated else place.annotated
    tokenizer = Path(settings.tokenizer) if settings.tokenizer else place.tokenizer
    cache = open_cache(place.root, annotated, tokenizer, workers=settings.workers, engine=settings.engine)
    if settings.output:
        copy_token_table(cache, settings.output)
    counts = {key: cache.meta[key] for key in ("num_samples", "num_tokens")}
    if as_json:
        console.print_json({"tokens": str(cache.folder), **counts})
    else:
        console.say(f"{cache.folder}: {counts['num_tokens']:,} tokens of {counts['num_samples']:,} samples")
