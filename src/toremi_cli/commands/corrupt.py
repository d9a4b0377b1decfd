"""`toremi corrupt`: plant noise in one topic, and keep the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command

Table = Annotated[
    Path | None, typer.Argument(metavar="[ANNOTATED]", show_default=False, help="Table; left out: the workdir's.")
]
Topic = Annotated[str, typer.Option("--topic", metavar="NAME", help="Label whose samples are corrupted (see --by).")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the corrupted copy.")]
Kind = Annotated[
    str,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="shuffle-chars, shuffle-words, random-tokens, truncate, boilerplate; mark: leave it.",
    ),
]
By = Annotated[str, typer.Option("--by", metavar="label|topic|source", help="What --topic names.")]
Fraction = Annotated[float, typer.Option("--fraction", metavar="SHARE", help="Share of its samples.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Decides which samples, and how.")]
HeldOut = Annotated[bool, typer.Option("--held-out", help="Corrupt the validation and test splits as well.")]
Tokenizer = Annotated[
    Path | None, typer.Option("--tokenizer", metavar="DIR", help="Counts the new tokens [dim]\\[the workdir's][/]")
]
Topics = Annotated[
    Path | None, typer.Option("--topics", metavar="FILE", help="Names of fine topics [dim]\\[the workdir's][/]")
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "corrupt", "Tools")
    def corrupt(
        topic: Topic,
        output: Output,
        annotated: Table = None,
        kind: Kind = "shuffle-chars",
        by: By = "label",
        fraction: Fraction = 1.0,
        seed: Seed = 0,
        held_out: HeldOut = False,
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
        from toremi_cli.corpus.corruption import CorruptionConfig, build_corrupted
        from toremi_cli.layout import Workdir as Layout

        place = Layout(workdir)
        config = CorruptionConfig(topic=topic, kind=kind, by=by, fraction=fraction, seed=seed, held_out=held_out)
        manifest = build_corrupted(
            annotated or place.annotated, output, tokenizer or place.tokenizer, topics or place.topics, config
        )
        result = {"path": str(output), "num_samples": manifest["num_rows"], "num_corrupted": manifest["num_corrupted"]}
        if as_json:
            console.print_json(result)
        else:
            counts = f"{result['num_corrupted']:,} of {result['num_samples']:,} samples corrupted ({kind})"
            console.say(f"{output}: {counts}")
