"""The settings of stages from what was given: by flags, by a file, and by the table that is there.

What isn't given means: as the table at hand was made, else the default. So a plain `toremi annotate` after
`toremi embed --max-tokens 256` recomputes nothing. 'auto' means the default again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.engine import check_engine, default_workers
from toremi_cli.errors import UsageError
from toremi_cli.settings import filled
from toremi_cli.topics.config import AnnotateConfig, ClusterConfig, EmbedConfig, LlmConfig

if TYPE_CHECKING:
    from toremi_cli.corpus.listing import Paths
    from toremi_cli.layout import Workdir

CorpusArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS",
        show_default=False,
        help="Files or folders of txt, md, code, jsonl, csv or parquet, also .gz or .zst; or URLs: hf://, s3://, gs://.",
    ),
]
OFFLINE = "none"
"""`--llm-url` that goes back to the lexicons."""
C = TypeVar("C")


def corpus_config(previous: Mapping[str, Any] | None, given: Mapping[str, Any]) -> CorpusConfig:
    """The settings for `build_samples`: those given, else as in the `previous` manifest, else the defaults.

    Raises:
        UsageError: out of range, or a size for the vocabulary of a tokenizer that is named.
    """
    own = filled(CorpusConfig, given)
    if own.get("tokenizer") and Path(own["tokenizer"]).exists():
        own["tokenizer"] = str(Path(own["tokenizer"]).resolve())  # a later run may stand in another folder
    config = _made(CorpusConfig, previous, own)
    if config.tokenizer is not None and "vocab_size" in own:
        raise UsageError(
            f"--vocab-size is for a tokenizer that is trained, and {config.tokenizer} is taken: leave it out, or "
            "train one with --tokenizer auto"
        )
    return config


def embed_config(previous: Mapping[str, Any] | None, given: Mapping[str, Any]) -> EmbedConfig:
    """The settings for `build_embeddings`, made likewise. A named model implies sentence-transformers.

    Raises:
        UsageError: no such vectors or model, or one without the other.
        MissingExtraError: a package that they need is missing.
    """
    from toremi_cli.topics.vectors import check_backend

    own = filled(EmbedConfig, given)
    before = (previous or {}).get("config", {})
    if own.get("model"):
        own.setdefault("backend", "sentence-transformers")
        if Path(own["model"]).is_dir():
            own["model"] = str(Path(own["model"]).resolve())
    elif own.get("backend") not in (None, before.get("backend")):
        own["model"] = None
    config = _made(EmbedConfig, previous, own)
    check_backend(config.backend, config.model)
    return config


def cluster_config(workdir: Workdir, given: Mapping[str, Any]) -> ClusterConfig:
    """The settings for `build_clusters`, made likewise.

    Raises:
        UsageError: out of range.
    """
    from toremi_cli.stage import previous_plan

    own = filled(ClusterConfig, given)
    previous = previous_plan(workdir.clusters)
    before = (previous or {}).get("config", {})
    if own.get("method") not in (None, before.get("method")):
        # What suits one method need not suit another.
        previous = {"config": {name: before[name] for name in ("fit_samples", "seed") if name in before}}
    return _made(ClusterConfig, previous, own)


def annotate_config(workdir: Workdir, given: Mapping[str, Any]) -> AnnotateConfig:
    """The settings of labels: those given, else as the labels in the workdir were made, else the defaults.

    Raises:
        UsageError: a server without a model, labels that cannot be read, or a value out of range.
        MissingExtraError: the package that asks servers is missing.
    """
    from toremi_cli.topics.annotate import previous_options
    from toremi_cli.topics.taxonomy import load_taxonomy

    before, asked = previous_options(workdir), filled(LlmConfig, given)
    config = _made(AnnotateConfig, {"config": {**before, "llm": None}}, filled(AnnotateConfig, given))
    load_taxonomy(config.taxonomy)
    server = {**(before.get("llm") or {}), **asked}
    if asked.get("url") == OFFLINE or not (server.get("url") or server.get("model")):
        return config
    for name in ("url", "model"):
        if not server.get(name):
            raise UsageError(f"labels by a language model need --llm-{name} too")
    llm = LlmConfig(**server)
    if asked.keys() & {"url", "model"}:  # a server that is remembered may have nothing left to say
        llm.check_client()
    return replace(config, llm=llm)


def where_to_work(given: Mapping[str, Any]) -> dict[str, Any]:
    """Engine and number of processes, for stages whose tables don't depend on them."""
    check_engine(given.get("engine", "local"))
    return {"engine": given.get("engine", "local"), "workers": given.get("workers") or default_workers()}


def paths_of(corpus: list[str]) -> Paths:
    """The paths of a command line, a single one by itself."""
    return corpus[0] if len(corpus) == 1 else corpus


def previous_corpus(workdir: Workdir) -> Paths | None:
    """The corpus that the samples in the workdir come from; None where that isn't known."""
    from toremi_cli.stage import previous_plan

    return (previous_plan(workdir.samples) or {}).get("corpus")


def previous_samples(workdir: Workdir, corpus: Paths) -> dict[str, Any] | None:
    """How the samples in the workdir were made, finished or not; None if they come from another corpus."""
    from toremi_cli.corpus.stage import place_of
    from toremi_cli.stage import previous_plan

    record = previous_plan(workdir.samples) or {}
    return record if record.get("corpus") and place_of(record["corpus"]) == place_of(corpus) else None


def previous_embeddings(workdir: Workdir) -> dict[str, Any] | None:
    """How the embeddings in the workdir were made, finished or not."""
    from toremi_cli.stage import previous_plan

    return previous_plan(workdir.embeddings)


def _made(kind: type[C], previous: Mapping[str, Any] | None, own: Mapping[str, Any]) -> C:
    """A stage's settings: its `own` that were given, else as in the `previous` manifest, else the defaults."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    kept = {name: value for name, value in (previous or {}).get("config", {}).items() if name in names}
    return kind(**{**kept, **own})
