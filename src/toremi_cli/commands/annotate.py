"""`toremi annotate`: from a corpus, or from where the earlier stages stopped, to the topic-labelled corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toremi_cli import console, layout
from toremi_cli.commands import options
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.errors import UsageError
from toremi_cli.settings import filled, one_each, to_toml
from toremi_cli.topics.config import AnnotateConfig, ClusterConfig, EmbedConfig, LlmConfig

if TYPE_CHECKING:
    from toremi_cli.layout import Workdir as Layout
    from toremi_cli.schemas import Table

Corpus = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CORPUS]",
        show_default=False,
        help="What `toremi embed` reads; left out: the samples that are in --workdir.",
    ),
]

LEAST_LABELLED = 0.5
"""With labels for a smaller part of the topics, something is wrong with them."""
SHOWN_TOPICS = 50

_EARLIER = one_each((ClusterConfig, CorpusConfig, EmbedConfig)).keys() - {"seed", "workers", "engine"}
"""Settings of the stages before the labels."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "annotate", "Stages")
    @with_settings(AnnotateConfig, LlmConfig, ClusterConfig, CorpusConfig, EmbedConfig)
    def annotate(
        given: Given,
        corpus: Corpus = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        relabel: Annotated[
            bool,
            typer.Option(
                "--relabel",
                metavar="",
                rich_help_panel="Labels",
                help="Only name and label the topics that are there; vectors and clusters stay, stale or not.",
            ),
        ] = False,
        dry_run: Annotated[
            bool,
            typer.Option(
                "--dry-run",
                metavar="",
                rich_help_panel="Labels by a language model",
                help="Only say how many calls and tokens the labels would cost.",
            ),
        ] = False,
        tokenize: Annotated[
            bool,
            typer.Option(
                "--tokenize", metavar="", rich_help_panel="Where", help="Also make the tokens that runs train on."
            ),
        ] = False,
        as_json: Json = False,
        print_config: bool = False,
    ) -> None:
        """Find the topics of a corpus and label every sample with them.

        Runs [bold]embed[/] and [bold]cluster[/] where their tables are missing or out of date,
        names and labels the topics, and writes the table [bold]annotated[/].
        Flags that are not given stay as they were.

        Example: [bold]toremi annotate corpus/[/]

        Only new labels: [bold]toremi annotate --relabel --taxonomy labels.txt[/]
        """
        from toremi_cli.stage import alone_in

        place = layout.Workdir(workdir)
        labels = options.annotate_config(place, given)
        where = options.where_to_work(given)
        if print_config:
            _print_config(place, corpus, given, labels)
            return
        if relabel or dry_run:
            _refuse_flags(corpus, given, "--relabel" if relabel else "--dry-run")
        if dry_run:
            _tell_cost(place, labels, as_json)
            return
        with alone_in(place):
            if not relabel:  # all flags are looked at before anything is read
                vectors, clusters = _vector_settings(place, given), _cluster_settings(place, given)
                _build_samples(place, corpus, given, where)
                _build_vectors(place, vectors)
                _build_clusters(place, clusters)
            _label(place, labels, where, as_json)
        if tokenize:
            from toremi_cli.train.tokens import open_cache

            open_cache(place.root, place.annotated, place.tokenizer, **where)


def _print_config(place: Layout, corpus: list[str] | None, given: Given, labels: AnnotateConfig) -> None:
    paths = options.paths_of(corpus) if corpus else options.previous_corpus(place)
    samples = options.corpus_config(options.previous_samples(place, paths) if paths else None, given)
    vectors = options.embed_config(options.previous_embeddings(place), given)
    configs = [labels, *filter(None, [labels.llm]), options.cluster_config(place, given), samples, vectors]
    typer.echo(to_toml(*configs), nl=False)


def _refuse_flags(corpus: list[str] | None, given: Given, mode: str) -> None:
    """Say so where a setting would be without effect."""
    idle = [key for key in given if key in _EARLIER]
    if corpus:
        raise UsageError(f"{mode} takes the clusters that are there: leave out CORPUS {corpus[0]}, or leave out {mode}")
    if idle:
        flag = "--" + idle[0].replace("_", "-")
        raise UsageError(f"{mode} takes the clusters that are there: leave out {flag}, or leave out {mode}")


def _build_samples(place: Layout, corpus: list[str] | None, given: Given, where: dict[str, Any]) -> None:
    """Cut the corpus into samples; without one, take the samples that are there."""
    from toremi_cli.corpus.stage import build_samples

    paths = options.paths_of(corpus) if corpus else None
    if paths is None:
        if not place.samples.exists():
            raise UsageError(f"no samples in {place.root}: name a corpus, as in `toremi annotate corpus/`")
        if not filled(CorpusConfig, given).keys() - {"seed"}:
            return
        paths = options.previous_corpus(place)
        if paths is None:
            raise UsageError(f"{place.samples}: its corpus is not known; name one, as in `toremi annotate corpus/`")
    build_samples(paths, place, options.corpus_config(options.previous_samples(place, paths), given), **where)


def _vector_settings(place: Layout, given: Given) -> EmbedConfig | None:
    """None where the user has put vectors of their own there."""
    from toremi_cli.schemas import EMBEDDINGS

    if _takes_own(place.embeddings, EMBEDDINGS, EmbedConfig, given):
        return None
    return options.embed_config(options.previous_embeddings(place), given)


def _cluster_settings(place: Layout, given: Given) -> ClusterConfig | None:
    """None where the user has put clusters of their own there."""
    from toremi_cli.schemas import CLUSTERS

    own = _takes_own(place.clusters, CLUSTERS, ClusterConfig, given)
    return None if own else options.cluster_config(place, given)


def _build_vectors(place: Layout, settings: EmbedConfig | None) -> None:
    from toremi_cli.topics.embed import build_embeddings

    if settings is not None:
        build_embeddings(place, settings)


def _build_clusters(place: Layout, settings: ClusterConfig | None) -> None:
    from toremi_cli.topics.cluster import build_clusters

    if settings is not None:
        build_clusters(place, settings)


def _takes_own(folder: Path, table: Table, kind: type, given: Given) -> bool:
    """Whether the user has put a table of another program there: then it is taken as it is."""
    from toremi_cli.stage import is_users_own

    if not is_users_own(folder, table):
        return False
    asked = sorted(key for key in one_each([kind]) if key in given and key in _EARLIER)
    if asked:
        flag = "--" + asked[0].replace("_", "-")
        raise UsageError(f"{flag}: {folder} was not written by toremi; move it away, or leave the flag out to take it")
    console.note(f"{folder}: not written by toremi, taken as it is")
    return True


def _tell_cost(place: Layout, labels: AnnotateConfig, as_json: bool) -> None:
    from dataclasses import asdict

    from toremi_cli.topics.annotate import llm_cost

    cost = llm_cost(place, labels)
    if as_json:
        console.print_json(asdict(cost))
        return
    console.say(
        f"{cost.num_calls:,} calls for {cost.num_topics:,} topics ({cost.num_cached:,} answered already), "
        f"about {cost.prompt_tokens:,} tokens in and {cost.completion_tokens:,} out; a repeated or repaired answer "
        "comes on top"
    )


def _label(place: Layout, labels: AnnotateConfig, where: dict[str, Any], as_json: bool) -> None:
    from toremi_cli.commands.topics import print_topics, read_topics
    from toremi_cli.topics.annotate import build_annotated

    manifest = build_annotated(place, labels, **where)
    topics = read_topics(place.root)
    result = {
        "annotated": str(place.annotated),
        "num_samples": manifest["num_rows"],
        "num_without_known_words": manifest.get("num_without_known_words", 0),
        "num_unsettled": manifest["num_rows"] - sum(topic["num_samples"] for topic in topics),
        "num_topics": len(topics),
        "num_labelled_topics": manifest["num_labelled_topics"],
    }
    if result["num_labelled_topics"] < LEAST_LABELLED * len(topics):
        console.warn(
            f"only {result['num_labelled_topics']:,} of {len(topics):,} topics have labels, which are for English: "
            "train with --topics fine, or give labels of your own (--taxonomy FILE)",
            even_quiet=True,
        )
    if as_json:
        console.print_json({**result, "topics": topics})
        return
    print_topics(topics[:SHOWN_TOPICS])
    if len(topics) > SHOWN_TOPICS:
        console.out.print(f"… and {len(topics) - SHOWN_TOPICS:,} more: toremi topics")
    console.say(
        f"\n{result['annotated']}: {result['num_samples']:,} samples, {result['num_unsettled']:,} of them without a "
        f"topic; {result['num_topics']:,} topics, {result['num_labelled_topics']:,} with labels"
    )
    if unknown := result["num_without_known_words"]:
        console.say(f"{unknown:,} samples hold no word that the vectors know")
