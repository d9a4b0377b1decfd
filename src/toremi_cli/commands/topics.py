"""`toremi topics`: the topics of a corpus as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.settings import filled
from toremi_cli.topics.config import MapConfig

if TYPE_CHECKING:
    from rich.text import Text

MAX_SOURCES = 3


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "topics", "Look")
    @with_settings(MapConfig)
    def topics(
        given: Given,
        workdir: Workdir = DEFAULT_WORKDIR,
        words: Annotated[int, typer.Option("--words", min=1, help="How many keywords to show of each topic.")] = 6,
        html: Annotated[
            Path | None,
            typer.Option(
                "--html", metavar="FILE", help="Write a page with a map of the corpus instead: one file, no network."
            ),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Print the topics, largest first: name, labels, words, size, sources.

        Share is the part of all samples with a topic; agreement says how far
        the word view and the vector view agree on its samples, 0 to 1. With
        --levels when clustering, "in" names the coarser topics it is part of.

        Example: [bold]toremi topics --words 10[/]

        As a page to open in a browser: [bold]toremi topics --html topics.html[/]
        """
        rows = read_topics(workdir)
        if html is not None:
            _write_page(workdir, rows, html, MapConfig(**filled(MapConfig, given)))
            return
        console.print_json(rows) if as_json else print_topics(rows, words)


def read_topics(workdir: Path) -> list[dict[str, Any]]:
    """The rows of the table of topics, largest first, each with its `share` of the samples that have a topic.

    Raises:
        TableError: there are no topics yet.
    """
    from toremi_cli.errors import TableError
    from toremi_cli.layout import Workdir as Layout
    from toremi_cli.schemas import TOPICS
    from toremi_cli.tables import TableReader

    path = Layout(workdir).topics
    if not path.exists():
        raise TableError(f"{path}: no topics there yet; run `toremi annotate CORPUS --workdir {workdir}` first")
    rows = TableReader(path, TOPICS).read().to_pylist()
    total = sum(row["num_samples"] for row in rows)
    for row in rows:
        row["share"] = row["num_samples"] / total if total else 0.0
    return sorted(rows, key=lambda row: (-row["num_samples"], row["topic"]))


def _write_page(workdir: Path, rows: list[dict[str, Any]], path: Path, config: MapConfig) -> None:
    from toremi_cli.layout import Workdir as Layout
    from toremi_cli.topics.map_page import write_map_page

    num_points = write_map_page(Layout(workdir), rows, path, config)
    console.say(f"{path}: {len(rows):,} topics, {num_points:,} samples on the map")


def print_topics(rows: list[dict[str, Any]], num_words: int = 6) -> None:
    """Print the topics as a table that fits the terminal, three lines a topic."""
    numbers = ("#", "samples", "share", "agree")
    table = console.table(*numbers, "topic -> labels / words / sources", numbers=numbers, header_style="bold")
    by_several = len({row["label_source"] for row in rows if row["labels"]}) > 1
    for row in rows:
        agreement = "-" if row["agreement"] is None else f"{row['agreement']:.2f}"
        numbers = (str(row["topic"]), f"{row['num_samples']:,}", f"{row['share']:.1%}", agreement)
        table.add_row(*numbers, _story(row, num_words, by_several))
    console.out.print(table)


def _story(row: dict[str, Any], num_words: int, by_several: bool) -> Text:
    """Name and labels, with who gave them if `by_several`; coarser topics, keywords, and sources with their shares."""
    from rich.text import Text

    labels = "" if row["label_source"] == "name" else " -> " + (", ".join(row["labels"] or ()) or "no label")
    labels += f" ({row['label_source']})" if by_several and row["labels"] else ""
    above = "".join(f"\nin {name}" for name in row.get("parent_names") or ())
    words = ", ".join(row["words"][:num_words]) or "(no words)"
    return Text.assemble((row["name"], "bold"), (labels, "cyan"), above, f"\n{words}\n", (_sources(row), "dim"))


def _sources(row: dict[str, Any]) -> str:
    sources = row["sources"] or []
    shown = [f"{s['source']} {s['num_samples'] / max(row['num_samples'], 1):.0%}" for s in sources[:MAX_SOURCES]]
    more = len(sources) - MAX_SOURCES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
