"""`toremi annotate`: from a corpus, or from where the earlier stages stopped, to the topic-labelled corpus."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands import label_options, options, topic_options
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command

if TYPE_CHECKING:
    from collections.abc import Callable

    from toremi_cli.layout import Workdir as Layout
    from toremi_cli.schemas import Table
    from toremi_cli.topics.annotate import AnnotateConfig
    from toremi_cli.topics.config import ClusterConfig
    from toremi_cli.topics.embed import EmbedConfig

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

LABEL_FLAGS = {
    "taxonomy": label_options.Taxonomy,
    "max_labels": label_options.MaxLabels,
    "min_score": label_options.MinScore,
    "closeness": label_options.Closeness,
}
LLM_FLAGS = {
    "llm_url": label_options.LlmUrl,
    "llm_model": label_options.LlmModel,
    "llm_concurrency": label_options.LlmConcurrency,
    "llm_attempts": label_options.LlmAttempts,
    "llm_timeout": label_options.LlmTimeout,
}
CLUSTER_FLAGS = {
    "method": topic_options.Method,
    "num_topics": topic_options.NumTopics,
    "num_clusters": topic_options.NumClusters,
    "fit_samples": topic_options.FitSamples,
    "min_topic_samples": topic_options.MinTopicSamples,
    "min_agreement": topic_options.MinAgreement,
    "cut_kinds": topic_options.CutKinds,
    "levels": topic_options.Levels,
}
CORPUS_FLAGS = {
    "text_field": options.TextField,
    "source_field": options.SourceField,
    "id_field": options.IdField,
    "ext": options.Ext,
    "group_field": options.GroupField,
    "on_error": options.OnError,
    "max_tokens": options.MaxTokens,
    "tokenizer": options.Tokenizer,
    "vocab_size": options.VocabSize,
    "holdout": options.Holdout,
    "shard_samples": options.ShardSamples,
}
VECTOR_FLAGS = {
    "vectors": options.Vectors,
    "vector_model": options.VectorModel,
    "vector_dim": options.VectorDim,
    "vector_fit_samples": options.VectorFitSamples,
}
ENGINE_FLAGS = {"workers": options.Workers, "engine": options.Engine}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    def annotate(
        corpus: Corpus = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        relabel: label_options.Relabel = False,
        dry_run: label_options.DryRun = False,
        seed: options.Seed = None,
        as_json: Json = False,
        **flags: Any,
    ) -> None:
        """Find the topics of a corpus and label every sample with them.

        Runs [bold]embed[/] and [bold]cluster[/] where their tables are missing or out of date,
        names and labels the topics, and writes the table [bold]annotated[/].
        Flags that are not given stay as they were.

        Example: [bold]toremi annotate corpus/[/]

        Only new labels: [bold]toremi annotate --relabel --taxonomy labels.txt[/]
        """
        from toremi_cli.stage import alone_in

        place = options.workdir_at(workdir)
        labels = _label_settings(place, flags, seed)
        where = options.where_to_work(flags["engine"], flags["workers"])
        if relabel or dry_run:
            _refuse_flags(corpus, flags, "--relabel" if relabel else "--dry-run")
        if dry_run:
            _tell_cost(place, labels, as_json)
            return
        with alone_in(place):
            if not relabel:  # all flags are looked at before anything is read
                vectors = _vector_settings(place, _given(flags, VECTOR_FLAGS | ENGINE_FLAGS, seed))
                clusters = _cluster_settings(place, _given(flags, CLUSTER_FLAGS | ENGINE_FLAGS, seed))
                _build_samples(place, corpus, _given(flags, CORPUS_FLAGS, seed), where)
                _build_vectors(place, vectors)
                _build_clusters(place, clusters)
            _label(place, labels, where, as_json)

    groups = (LABEL_FLAGS, LLM_FLAGS, CLUSTER_FLAGS, CORPUS_FLAGS, VECTOR_FLAGS, ENGINE_FLAGS)
    command(app, "annotate", "Stages")(_with_flags(annotate, *groups))


def _with_flags(function: Callable[..., None], *groups: dict[str, Any]) -> Callable[..., None]:
    """Put optional flags in the place of the function's `**flags`: all flags of all stages, each listed once above."""
    signature = inspect.signature(function, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for group in groups
        for name, annotation in group.items()
    ]
    function.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    return function


def _given(flags: dict[str, Any], group: dict[str, Any], seed: int | None) -> dict[str, Any]:
    """The flags of one group that the user set."""
    return options.given({name: flags[name] for name in group} | {"seed": seed})


def _label_settings(place: Layout, flags: dict[str, Any], seed: int | None) -> AnnotateConfig:
    llm = {name.removeprefix("llm_"): flags[name] for name in LLM_FLAGS}
    llm["timeout_seconds"] = llm.pop("timeout")
    return label_options.annotate_config(place, llm, seed, **{name: flags[name] for name in LABEL_FLAGS})


def _refuse_flags(corpus: list[str] | None, flags: dict[str, Any], mode: str) -> None:
    """Say so where a flag would be without effect."""
    from toremi_cli.errors import UsageError

    idle = [name for group in (CLUSTER_FLAGS, CORPUS_FLAGS, VECTOR_FLAGS) for name in group if flags[name] is not None]
    if corpus:
        raise UsageError(f"{mode} takes the clusters that are there: leave out CORPUS {corpus[0]}, or leave out {mode}")
    if idle:
        flag = "--" + idle[0].replace("_", "-")
        raise UsageError(f"{mode} takes the clusters that are there: leave out {flag}, or leave out {mode}")


def _build_samples(place: Layout, corpus: list[str] | None, flags: dict[str, Any], where: dict[str, Any]) -> None:
    """Cut the corpus into samples; without one, take the samples that are there."""
    from toremi_cli.corpus.stage import build_samples
    from toremi_cli.errors import UsageError
    from toremi_cli.stage import previous_plan

    paths = options.paths_of(corpus) if corpus else None
    if paths is None:
        record = previous_plan(place.samples)
        if not place.samples.exists():
            raise UsageError(f"no samples in {place.root}: name a corpus, as in `toremi annotate corpus/`")
        if not flags.keys() - {"seed"}:
            return
        paths = (record or {}).get("corpus")
        if paths is None:
            raise UsageError(f"{place.samples}: its corpus is not known; name one, as in `toremi annotate corpus/`")
    settings = options.corpus_config(options.previous_samples(place, paths), **flags)
    build_samples(paths, place, settings, **where)


def _vector_settings(place: Layout, flags: dict[str, Any]) -> EmbedConfig | None:
    """None where the user has put vectors of their own there."""
    from toremi_cli.schemas import EMBEDDINGS

    if _takes_own(place.embeddings, EMBEDDINGS, flags):
        return None
    names = {"vectors": "backend", "vector_model": "model", "vector_dim": "dim", "vector_fit_samples": "fit_samples"}
    renamed = {names.get(name, name): value for name, value in flags.items()}
    return options.embed_config(options.previous_embeddings(place), **renamed)


def _cluster_settings(place: Layout, flags: dict[str, Any]) -> ClusterConfig | None:
    """None where the user has put clusters of their own there."""
    from toremi_cli.schemas import CLUSTERS

    return None if _takes_own(place.clusters, CLUSTERS, flags) else topic_options.cluster_config(place, **flags)


def _build_vectors(place: Layout, settings: EmbedConfig | None) -> None:
    from toremi_cli.topics.embed import build_embeddings

    if settings is not None:
        build_embeddings(place, settings)


def _build_clusters(place: Layout, settings: ClusterConfig | None) -> None:
    from toremi_cli.topics.cluster import build_clusters

    if settings is not None:
        build_clusters(place, settings)


def _takes_own(folder: Path, table: Table, flags: dict[str, Any]) -> bool:
    """Whether the user has put a table of another program there: then it is taken as it is."""
    from toremi_cli.errors import UsageError
    from toremi_cli.stage import is_users_own

    if not is_users_own(folder, table):
        return False
    asked = flags.keys() - {"seed", *ENGINE_FLAGS}
    if asked:
        flag = "--" + sorted(asked)[0].replace("_", "-")
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
