"""Settings of `toremi cluster`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from toremi_cli.engine import check_engine
from toremi_cli.errors import UsageError

METHODS = ("fused", "kmeans", "lda", "top2vec")
PAPER_NUM_CLUSTERS = 10_000
"""Clusters of the paper's recipe (ToReMi, annotation): MiniBatchKMeans on the samples' vectors."""
DEFAULT_LDA_TOPICS = 50
"""LDA finds no number of topics itself."""


@dataclass(frozen=True)
class ClusterConfig:
    """How samples are put into topics."""

    method: str = "fused"
    """'fused' (Top2Vec and LDA as one model), or one alone: 'kmeans' (the paper's recipe), 'lda', 'top2vec'."""
    num_topics: int | None = None
    """How many topics; None: as many as are found."""
    num_clusters: int | None = None
    """Clusters of 'kmeans'; None: the paper's 10,000, or fewer where the samples to fit on are few."""
    fit_samples: int = 50_000
    """At most how many samples of the train split the model is fitted on, fair to the sources."""
    min_topic_samples: int = 15
    """The smallest dense area that makes a topic, in samples to fit on (HDBSCAN's min_cluster_size)."""
    min_agreement: float = 0.0
    """Below this agreement of the two views, 0 to 1, a sample gets no topic."""
    cut_kinds: bool = True
    """Whether topics of 'fused' are cut where their samples are clearly of different kinds of text (`kinds`)."""
    levels: int = 1
    """Levels of topics: above 1, fine topics are rolled up into ever coarser ones."""
    seed: int = 0
    """Of everything drawn at random."""
    workers: int = 1
    """Processes that assign shards; the result is the same for any number."""
    engine: str = "local"
    """'local' or 'ray': where shards are assigned; the result is the same."""

    def __post_init__(self) -> None:
        check_engine(self.engine, self.workers)
        if self.method not in METHODS:
            raise UsageError(f"--method {self.method}: expected one of {', '.join(METHODS)}")
        for flag in ("num_topics", "num_clusters", "fit_samples", "levels"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise UsageError(f"--{flag.replace('_', '-')} {value}: expected at least 1")
        if self.min_topic_samples < 2:
            raise UsageError(f"--min-topic-samples {self.min_topic_samples}: expected at least 2")
        if not 0 <= self.min_agreement <= 1:
            raise UsageError(f"--min-agreement {self.min_agreement}: expected a number from 0 to 1")
        if self.num_clusters is not None and self.method != "kmeans":
            raise UsageError(f"--num-clusters goes with --method kmeans; for --method {self.method} use --num-topics")
        if self.num_clusters is not None and self.num_topics is not None:
            raise UsageError("--num-clusters and --num-topics say the same thing for --method kmeans: give one")
        if self.min_agreement > 0 and self.method != "fused":
            raise UsageError(f"--min-agreement needs two views: --method {self.method} has one; use --method fused")

    def settings(self) -> dict[str, Any]:
        """What decides the result: where it is computed does not."""
        return {name: value for name, value in asdict(self).items() if name not in ("workers", "engine")}
