"""Flags that several commands share, and how flags that were not given are filled in.

A flag that isn't given means: as the table at hand was made, else the default. So a plain `toremi annotate` after
`toremi embed --max-tokens 256` recomputes nothing. 'auto' means the default again, where that is no value that one
could name.
"""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from toremi_cli.errors import UsageError

if TYPE_CHECKING:
    from toremi_cli.corpus.config import CorpusConfig
    from toremi_cli.corpus.listing import Paths
    from toremi_cli.layout import Workdir
    from toremi_cli.topics.embed import EmbedConfig

CORPUS_PANEL = "Corpus"
SAMPLES_PANEL = "Samples and tokenizer"
VECTORS_PANEL = "Vectors"
ENGINE_PANEL = "Where"

CorpusArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS",
        show_default=False,
        help="Files or folders of txt, md, code, jsonl, csv or parquet, also .gz or .zst; or URLs: hf://, s3://, gs://.",
    ),
]
TextField = Annotated[
    str | None,
    typer.Option(
        "--text-field",
        metavar="NAME",
        rich_help_panel=CORPUS_PANEL,
        help="Field that holds the text; meta.body: in an object [dim]\\[auto: text, content, body, …][/]",
    ),
]
SourceField = Annotated[
    str | None,
    typer.Option(
        "--source-field",
        metavar="NAME",
        rich_help_panel=CORPUS_PANEL,
        help="Field that names the source, e.g. meta.set [dim]\\[auto: `source`, else sub-folder, else file][/]",
    ),
]
IdField = Annotated[
    str | None,
    typer.Option(
        "--id-field",
        metavar="NAME",
        rich_help_panel=CORPUS_PANEL,
        help="Field that identifies a document; 'none': file and line [dim]\\[auto: `id`, else file and line][/]",
    ),
]
Ext = Annotated[
    str | None,
    typer.Option(
        "--ext",
        metavar="NAME,…",
        rich_help_panel=CORPUS_PANEL,
        help="Endings to read as text, e.g. html,json [dim]\\[auto: txt, md, rst, tex and source code][/]",
    ),
]
GroupField = Annotated[
    str | None,
    typer.Option(
        "--group-field",
        metavar="NAME",
        rich_help_panel=CORPUS_PANEL,
        help="Field that names what a document is a piece of (a book, a repository); held out whole "
        "[dim]\\[auto: none][/]",
    ),
]
OnError = Annotated[
    str | None,
    typer.Option(
        "--on-error",
        metavar="fail|skip",
        rich_help_panel=CORPUS_PANEL,
        help="What a broken line or file does [dim]\\[fail][/]",
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", rich_help_panel=SAMPLES_PANEL, help="Longest sample, in tokens [dim]\\[1024][/]", metavar="N"
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="PATH|NAME",
        rich_help_panel=SAMPLES_PANEL,
        help="A local path or a hub name [dim]\\[auto: a byte-level BPE trained on the training split][/]",
    ),
]
VocabSize = Annotated[
    int | None,
    typer.Option(
        "--vocab-size",
        metavar="N",
        rich_help_panel=SAMPLES_PANEL,
        help="Entries of a trained tokenizer [dim]\\[16384, fewer if the corpus is small][/]",
    ),
]
Holdout = Annotated[
    float | None,
    typer.Option(
        "--holdout",
        metavar="SHARE",
        rich_help_panel=SAMPLES_PANEL,
        help="Share of the documents held out, half validation, half test [dim]\\[0.01, and some of every source][/]",
    ),
]
ShardSamples = Annotated[
    int | None,
    typer.Option(
        "--shard-samples",
        metavar="N",
        rich_help_panel=SAMPLES_PANEL,
        help="Rows of a Parquet shard, at most [dim]\\[50000][/]",
    ),
]
Vectors = Annotated[
    str | None,
    typer.Option(
        "--vectors",
        metavar="NAME",
        rich_help_panel=VECTORS_PANEL,
        help="'doc2vec', learnt from the corpus, or 'sentence-transformers' [dim]\\[doc2vec][/]",
    ),
]
VectorModel = Annotated[
    str | None,
    typer.Option(
        "--vector-model",
        metavar="PATH|NAME",
        rich_help_panel=VECTORS_PANEL,
        help="Model for sentence-transformers, e.g. BAAI/bge-m3 (implies it)",
    ),
]
VectorDim = Annotated[
    int | None,
    typer.Option(
        "--vector-dim", metavar="N", rich_help_panel=VECTORS_PANEL, help="Length of learnt vectors [dim]\\[150][/]"
    ),
]
VectorFitSamples = Annotated[
    int | None,
    typer.Option(
        "--vector-fit-samples",
        metavar="N",
        rich_help_panel=VECTORS_PANEL,
        help="Samples that vectors are learnt from, at most [dim]\\[20000][/]",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Seed of everything that is drawn [dim]\\[0][/]"),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        rich_help_panel=ENGINE_PANEL,
        help="Processes that work on shards; the result is the same [dim]\\[every core][/]",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="local|ray",
        rich_help_panel=ENGINE_PANEL,
        help="'ray': the cluster at RAY_ADDRESS, over a shared --workdir [dim]\\[local][/]",
    ),
]

AUTO = "auto"
"""Value of a flag that takes back what was given before."""
COUNT_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}

C = TypeVar("C")


def token_count(text: str) -> float:
    """'2.6B' as a number of tokens.

    Raises:
        UsageError: not a number of at least 1.
    """
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    try:
        count = float(text[: len(text) - len(unit)]) * COUNT_UNITS[unit]
    except (ValueError, KeyError):
        count = math.nan
    if not 1 <= count < math.inf:
        raise UsageError(f"--tokens {text}: expected a number of tokens such as 500K, 20M or 2.6B")
    return count


def corpus_config(previous: dict[str, Any] | None, **flags: Any) -> CorpusConfig:
    """The settings for `build_samples`; a flag that is None is taken from the `previous` manifest, else the default.

    Raises:
        UsageError: a size for the vocabulary of a tokenizer that is named.
    """
    from toremi_cli.corpus.config import CorpusConfig

    tokenizer = flags.get("tokenizer")
    if tokenizer not in (None, AUTO) and Path(tokenizer).exists():
        flags["tokenizer"] = str(Path(tokenizer).resolve())  # a later run may stand in another folder
    config = filled(CorpusConfig, previous, flags)
    if config.tokenizer is not None and flags.get("vocab_size") is not None:
        raise UsageError(
            f"--vocab-size is for a tokenizer that is trained, and {config.tokenizer} is taken: leave it out, or "
            "train one with --tokenizer auto"
        )
    return config


def embed_config(previous: dict[str, Any] | None, **flags: Any) -> EmbedConfig:
    """The settings for `build_embeddings`, filled in likewise. A named model implies sentence-transformers.

    Raises:
        UsageError: no such vectors or model, or one without the other.
        MissingExtraError: a package that they need is missing.
    """
    from toremi_cli.topics.embed import EmbedConfig
    from toremi_cli.topics.vectors import check_backend

    if flags.get("model") and not flags.get("backend"):
        flags["backend"] = "sentence-transformers"
    elif flags.get("backend") and not flags.get("model") and previous:
        kept = previous.get("config", {}).get("backend") == flags["backend"]
        previous = previous if kept else {"config": {**previous.get("config", {}), "model": None}}
    from toremi_cli.engine import default_workers

    model = flags.get("model")
    if model not in (None, AUTO) and Path(model).is_dir():
        flags["model"] = str(Path(model).resolve())
    config = filled(EmbedConfig, previous, {"workers": default_workers(), **given(flags)})
    check_backend(config.backend, config.model)
    return config


def where_to_work(engine: str | None, workers: int | None) -> dict[str, Any]:
    """Engine and number of processes, for stages whose tables don't depend on them; every core where none is given."""
    from toremi_cli.engine import check_engine, default_workers

    where: dict[str, Any] = {"engine": engine or "local", "workers": default_workers() if workers is None else workers}
    check_engine(**where)
    return where


def paths_of(corpus: list[str]) -> Paths:
    """The paths of a command line, a single one by itself."""
    return corpus[0] if len(corpus) == 1 else corpus


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


def filled(kind: type[C], previous: dict[str, Any] | None, flags: dict[str, Any]) -> C:
    """A stage's settings: those flags that were given, else as in the `previous` manifest, else the defaults.

    A flag that is AUTO is as if it had never been given.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = set(flags) - names
    assert not unknown, unknown
    kept = {name: value for name, value in (previous or {}).get("config", {}).items() if name in names}
    settings = {**kept, **given(flags)}
    return kind(**{name: value for name, value in settings.items() if value != AUTO})


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """Those flags that were given: the others are None."""
    return {name: value for name, value in flags.items() if value is not None}


def workdir_at(root: Path) -> Workdir:
    """The layout under `--workdir`."""
    from toremi_cli.layout import Workdir

    return Workdir(root)
