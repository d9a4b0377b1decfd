"""`toremi cluster`: samples and vectors become topics."""

from __future__ import annotations

from typing import Any

import typer

from toremi_cli import console
from toremi_cli.commands import options, topic_options
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command

SHOWN = 30
SHOWN_WORDS = 8


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "cluster", "Stages")
    def cluster(
        workdir: Workdir = DEFAULT_WORKDIR,
        method: topic_options.Method = None,
        num_topics: topic_options.NumTopics = None,
        num_clusters: topic_options.NumClusters = None,
        fit_samples: topic_options.FitSamples = None,
        min_topic_samples: topic_options.MinTopicSamples = None,
        min_agreement: topic_options.MinAgreement = None,
        cut_kinds: topic_options.CutKinds = None,
        levels: topic_options.Levels = None,
        workers: options.Workers = None,
        engine: options.Engine = None,
        seed: options.Seed = None,
        as_json: Json = False,
    ) -> None:
        """Find the topics of the samples: LDA and Top2Vec as one model.

        Reads the tables samples and embeddings, writes clusters and topics.
        Run again, it redoes only what changed; flags not given stay as they were.

        Example: [bold]toremi cluster --num-topics 40[/]
        """
        from toremi_cli.stage import alone_in
        from toremi_cli.topics.cluster import build_clusters

        place = options.workdir_at(workdir)
        settings = topic_options.cluster_config(
            place,
            method=method,
            num_topics=num_topics,
            num_clusters=num_clusters,
            fit_samples=fit_samples,
            min_topic_samples=min_topic_samples,
            min_agreement=min_agreement,
            cut_kinds=cut_kinds,
            levels=levels,
            workers=workers,
            engine=engine,
            seed=seed,
        )
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
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("topic", "samples", "tokens", "agreement"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("words", overflow="fold")
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
