"""`toremi cluster`: samples and vectors become topics."""

from __future__ import annotations

from typing import Any

import typer

from toremi_cli import console, layout
from toremi_cli.commands import options
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.settings import to_toml
from toremi_cli.topics.config import ClusterConfig

SHOWN = 30
SHOWN_WORDS = 8


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "cluster", "Stages")
    @with_settings(ClusterConfig)
    def cluster(
        given: Given, workdir: Workdir = DEFAULT_WORKDIR, as_json: Json = False, print_config: bool = False
    ) -> None:
        """Find the topics of the samples: LDA and Top2Vec as one model.

        Reads the tables samples and embeddings, writes clusters and topics.
        Run again, it redoes only what changed; flags not given stay as they were.

        Example: [bold]toremi cluster --num-topics 40[/]
        """
        from toremi_cli.stage import alone_in
        from toremi_cli.topics.cluster import build_clusters

        place = layout.Workdir(workdir)
        settings = options.cluster_config(place, given)
        if print_config:
            typer.echo(to_toml(settings), nl=False)
            return
        with alone_in(place):
            manifest = build_clusters(place, settings)
        result = _summary(manifest, place)
        console.print_json(result) if as_json else _print(result)


def _summary(manifest: dict[str, Any], place: Any) -> dict[str, Any]:
    from toremi_cli.schemas import TOPICS
    from toremi_cli.tables import TableReader

    keys = ("method", "num_topics", "reason", "agreement", "coverage")
    columns = ["topic", "name", "num_samples", "num_tokens", "agreement", "words"]
    topics = TableReader(place.topics, TOPICS).read(columns).to_pylist()
    unknown = manifest.get("num_without_known_words", 0)
    facts = {"num_samples": manifest["num_rows"], "num_without_known_words": unknown, "topics": topics}
    return {**{key: manifest[key] for key in keys}, **facts}


def _print(result: dict[str, Any]) -> None:
    from rich.text import Text

    numbers = ("topic", "samples", "tokens", "agreement")
    table = console.table(*numbers, "words", numbers=numbers)
    for topic in result["topics"][:SHOWN]:
        counts = (f"{topic['num_samples']:,}", f"{topic['num_tokens']:,}", f"{topic['agreement']:.2f}")
        table.add_row(str(topic["topic"]), *counts, Text(" ".join(topic["words"][:SHOWN_WORDS])))
    console.out.print(table)
    if len(result["topics"]) > SHOWN:
        console.out.print(f"… and {len(result['topics']) - SHOWN:,} more: toremi topics")
    console.say(
        f"\n{result['num_topics']:,} topics ({result['reason']}) for {result['num_samples']:,} samples; "
        f"mean agreement {result['agreement']:.2f}; {result['coverage']:.1%} have a topic"
    )
    if unknown := result["num_without_known_words"]:
        console.say(f"{unknown:,} samples hold no word that the vectors know")
