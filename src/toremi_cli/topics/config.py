"""Settings of `toremi embed`'s vectors, of `toremi cluster` and of the labels of `toremi annotate`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Annotated, Any

from toremi_cli.engine import ENGINE, SEED, WORKERS, check_engine
from toremi_cli.errors import MissingExtraError, UsageError
from toremi_cli.plugins import VECTORS, plugin_names
from toremi_cli.settings import Setting, problem_of

PAPER_NUM_CLUSTERS = 10_000
"""Clusters of the paper's recipe (ToReMi, annotation): MiniBatchKMeans on the samples' vectors."""
DEFAULT_LDA_TOPICS = 50
"""LDA finds no number of topics itself."""
BACKENDS = ("doc2vec", "sentence-transformers")
_VECTORS, _TOPICS, _LABELS, _LLM = "Vectors", "Topics", "Labels", "Labels by a language model"
_MAP = "The map of --html"


@dataclass(frozen=True)
class EmbedConfig:
    """What decides the table `embeddings`, besides the samples."""

    backend: Annotated[
        str,
        Setting(f"{BACKENDS[0]} (learnt from the corpus), {BACKENDS[1]}, or a plug-in.", _VECTORS, flag="--vectors"),
    ] = "doc2vec"
    model: Annotated[
        str | None,
        Setting(
            "Model for sentence-transformers, e.g. BAAI/bge-m3 (implies it).",
            _VECTORS,
            flag="--vector-model",
            metavar="PATH|NAME",
        ),
    ] = None
    dim: Annotated[int, Setting("Length of learnt vectors.", _VECTORS, flag="--vector-dim", least=2)] = 150
    fit_samples: Annotated[
        int,
        Setting("Samples that vectors are learnt from, at most.", _VECTORS, flag="--vector-fit-samples", least=1),
    ] = 20_000
    """Of the train split, all sources alike as far as they have them."""
    seed: Annotated[int, SEED] = 0
    """Of that sample and of the learning."""
    workers: Annotated[int | None, WORKERS] = None
    engine: Annotated[str, ENGINE] = "local"

    def __post_init__(self) -> None:
        if problem := problem_of(self):
            raise UsageError(problem)
        known = (*BACKENDS, *plugin_names(VECTORS))
        if self.backend not in known:
            raise UsageError(f"--vectors {self.backend}: expected one of {', '.join(dict.fromkeys(known))}")
        if self.backend == "sentence-transformers" and not self.model:
            raise UsageError(
                "--vectors sentence-transformers: needs --vector-model, a name such as BAAI/bge-m3 or a path"
            )
        check_engine(self.engine)

    def settings(self) -> dict[str, Any]:
        """What decides the result: where it is computed does not."""
        return {name: value for name, value in asdict(self).items() if name not in ("engine", "workers")}


@dataclass(frozen=True)
class ClusterConfig:
    """How samples are put into topics."""

    method: Annotated[
        str,
        Setting(
            "fused is Top2Vec and LDA as one, kmeans the paper's recipe",
            _TOPICS,
            choices=("fused", "kmeans", "lda", "top2vec"),
        ),
    ] = "fused"
    num_topics: Annotated[
        int | None,
        Setting(
            "Number of topics, before they are cut by kind of text.", _TOPICS, least=1, unset="as many as are found"
        ),
    ] = None
    num_clusters: Annotated[
        int | None,
        Setting("Clusters of --method kmeans.", _TOPICS, least=1, unset="10000, fewer where samples are few"),
    ] = None
    fit_samples: Annotated[int, Setting("Samples that topics are learnt from, at most.", _TOPICS, least=1)] = 50_000
    """Of the train split, fair to the sources."""
    min_topic_samples: Annotated[
        int, Setting("Smallest dense area that makes a topic, in samples.", _TOPICS, least=2)
    ] = 15
    """HDBSCAN's min_cluster_size."""
    min_agreement: Annotated[
        float,
        Setting("Where the two views agree less, 0 to 1, a sample gets no topic.", _TOPICS, least=0, most=1),
    ] = 0.0
    cut_kinds: Annotated[bool, Setting("Cut topics whose samples are clearly of different kinds of text.", _TOPICS)] = (
        True
    )
    """Of 'fused': see `kinds`."""
    levels: Annotated[int, Setting("Levels of topics: fine ones roll up into coarse ones.", _TOPICS, least=1)] = 1
    seed: Annotated[int, SEED] = 0
    workers: Annotated[int | None, WORKERS] = None
    engine: Annotated[str, ENGINE] = "local"

    def __post_init__(self) -> None:
        if problem := problem_of(self):
            raise UsageError(problem)
        check_engine(self.engine)
        if self.num_clusters is not None and self.method != "kmeans":
            raise UsageError(f"--num-clusters goes with --method kmeans; for --method {self.method} use --num-topics")
        if self.num_clusters is not None and self.num_topics is not None:
            raise UsageError("--num-clusters and --num-topics say the same thing for --method kmeans: give one")
        if self.min_agreement > 0 and self.method != "fused":
            raise UsageError(f"--min-agreement needs two views: --method {self.method} has one; use --method fused")

    def settings(self) -> dict[str, Any]:
        """What decides the result: where it is computed does not."""
        return {name: value for name, value in asdict(self).items() if name not in ("workers", "engine")}


@dataclass(frozen=True)
class LlmConfig:
    """Which server to ask for labels, and how patiently."""

    url: Annotated[
        str,
        Setting(
            "OpenAI-compatible server, e.g. http://localhost:8000/v1 (key: TOREMI_LLM_KEY or OPENAI_API_KEY); "
            "'none': back to the lexicons.",
            _LLM,
            flag="--llm-url",
            metavar="URL",
        ),
    ]
    model: Annotated[str, Setting("Model on that server.", _LLM, flag="--llm-model")]
    concurrency: Annotated[int, Setting("Requests at once.", _LLM, flag="--llm-concurrency", least=1)] = 4
    attempts: Annotated[int, Setting("Most tries of a request.", _LLM, flag="--llm-attempts", least=1)] = 5
    """While the server is busy, failing or silent."""
    timeout_seconds: Annotated[
        float,
        Setting("Longest wait for an answer.", _LLM, flag="--llm-timeout", metavar="SECONDS", above=0),
    ] = 60.0
    seed: Annotated[int, SEED] = 0
    """Decides the order in which each topic's prompt lists the labels."""

    def __post_init__(self) -> None:
        if not re.match(r"https?://\S+$", self.url):
            raise UsageError(f"--llm-url {self.url}: expected an address such as http://localhost:8000/v1")
        if problem := problem_of(self):
            raise UsageError(problem)

    def check_client(self) -> None:
        """Refuse, before any work, to ask a server without the package for it."""
        if find_spec("openai") is None:
            raise MissingExtraError("openai", "llm", "--llm-url")


@dataclass(frozen=True)
class AnnotateConfig:
    """How topics get their labels."""

    taxonomy: Annotated[
        str,
        Setting(
            "The labels: a file (JSON, or one a line); 'none': each topic's own name.", _LABELS, metavar="NAME|FILE"
        ),
    ] = "wikipedia41"
    max_labels: Annotated[int, Setting("Most labels of a topic.", _LABELS, least=1, most=3)] = 3
    min_score: Annotated[float, Setting("No label scored below this is given.", _LABELS, least=0, most=1)] = 0.35
    """A topic without a label trains with weight 1."""
    closeness: Annotated[
        float, Setting("What a 2nd or 3rd label needs of the best one's score.", _LABELS, least=0, most=1)
    ] = 0.75
    llm: LlmConfig | None = None
    """The server that chooses the labels; None: the lexicons do."""

    def __post_init__(self) -> None:
        if problem := problem_of(self):
            raise UsageError(problem)


@dataclass(frozen=True)
class MapConfig:
    """How `toremi topics --html` draws its map."""

    max_points: Annotated[int, Setting("Samples on the map, at most.", _MAP, flag="--points", least=2)] = 3000
    """Drawn at random from all."""
    projection: Annotated[str, Setting("umap keeps neighbourhoods; pca is quick", _MAP, choices=("umap", "pca"))] = (
        "umap"
    )
    seed: Annotated[int, Setting("Of the samples drawn and of the projection.", _MAP)] = 0

    def __post_init__(self) -> None:
        if problem := problem_of(self):
            raise UsageError(problem)
