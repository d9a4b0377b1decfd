"""`toremi corrupt`: plant noise in one topic, and keep the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.corpus.config import CorruptionConfig
from toremi_cli.settings import filled

Table = Annotated[
    Path | None, typer.Argument(metavar="[ANNOTATED]", show_default=False, help="Table; left out: the workdir's.")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the corrupted copy.")]
Tokenizer = Annotated[
    Path | None, typer.Option("--tokenizer", metavar="DIR", help="Counts the new tokens [dim]\\[the workdir's][/]")
]
Topics = Annotated[
    Path | None, typer.Option("--topics", metavar="FILE", help="Names of fine topics [dim]\\[the workdir's][/]")
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "corrupt", "Tools")
    @with_settings(CorruptionConfig)
    def corrupt(
        given: Given,
        output: Output,
        annotated: Table = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        tokenizer: Tokenizer = None,
        topics: Topics = None,
        as_json: Json = False,
    ) -> None:
        """Plant noise in one topic of the annotated corpus, to see who notices.

        Writes a copy with the column [bold]corrupted[/]; train on it with
        toremi pretrain --annotated DIR.

        Example: [bold]toremi corrupt --topic Technology --kind shuffle-chars -o noisy[/]
        """
        from toremi_cli.corpus.corruption import build_corrupted
        from toremi_cli.layout import Workdir as Layout

        place = Layout(workdir)
        config = CorruptionConfig(**filled(CorruptionConfig, given))
        manifest = build_corrupted(
            annotated or place.annotated, output, tokenizer or place.tokenizer, topics or place.topics, config
        )
        result = {"path": str(output), "num_samples": manifest["num_rows"], "num_corrupted": manifest["num_corrupted"]}
        if as_json:
            console.print_json(result)
        else:
            counts = f"{result['num_corrupted']:,} of {result['num_samples']:,} samples corrupted ({config.kind})"
            console.say(f"{output}: {counts}")
