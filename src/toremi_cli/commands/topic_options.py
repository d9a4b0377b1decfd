"""The flags of the topic model, for `toremi cluster` and `toremi annotate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from toremi_cli.commands.options import AUTO, filled, given
from toremi_cli.errors import UsageError

if TYPE_CHECKING:
    from toremi_cli.layout import Workdir
    from toremi_cli.topics.config import ClusterConfig

TOPICS_PANEL = "Topics"

Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        rich_help_panel=TOPICS_PANEL,
        help="'fused' (Top2Vec and LDA as one), or 'kmeans' (the paper's), 'lda', 'top2vec' alone [dim]\\[fused][/]",
    ),
]
NumTopics = Annotated[
    str | None,
    typer.Option(
        "--num-topics",
        metavar="N",
        rich_help_panel=TOPICS_PANEL,
        help="Number of topics [dim]\\[auto: as many as are found][/]",
    ),
]
NumClusters = Annotated[
    str | None,
    typer.Option(
        "--num-clusters",
        metavar="N",
        rich_help_panel=TOPICS_PANEL,
        help="Clusters of --method kmeans [dim]\\[auto: 10000, fewer where samples are few][/]",
    ),
]
FitSamples = Annotated[
    int | None,
    typer.Option(
        "--fit-samples",
        metavar="N",
        rich_help_panel=TOPICS_PANEL,
        help="Samples that topics are learnt from, at most [dim]\\[50000][/]",
    ),
]
MinTopicSamples = Annotated[
    int | None,
    typer.Option(
        "--min-topic-samples",
        metavar="N",
        rich_help_panel=TOPICS_PANEL,
        help="Smallest dense area that makes a topic, in samples [dim]\\[15][/]",
    ),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        "--min-agreement",
        metavar="PART",
        rich_help_panel=TOPICS_PANEL,
        help="Where the two views agree less, 0 to 1, a sample gets no topic [dim]\\[0][/]",
    ),
]
CutKinds = Annotated[
    bool | None,
    typer.Option(
        "--cut-kinds/--no-cut-kinds",
        rich_help_panel=TOPICS_PANEL,
        help="Cut topics whose samples are clearly of different kinds of text [dim]\\[cut][/]",
    ),
]
Levels = Annotated[
    int | None,
    typer.Option(
        "--levels",
        metavar="N",
        rich_help_panel=TOPICS_PANEL,
        help="Levels of topics: fine ones roll up into coarse ones [dim]\\[1][/]",
    ),
]


def cluster_config(workdir: Workdir, **flags: Any) -> ClusterConfig:
    """The settings for `build_clusters`; a flag that is None is as the clusters there were made, else the default.

    Raises:
        UsageError: not a number, or out of range.
    """
    from toremi_cli.engine import default_workers
    from toremi_cli.stage import previous_plan
    from toremi_cli.topics.config import ClusterConfig

    for name in ("num_topics", "num_clusters"):
        flags[name] = _count_or_auto(name, flags.get(name))
    previous = previous_plan(workdir.clusters)
    before = (previous or {}).get("config", {})
    if flags.get("method") not in (None, before.get("method")):
        # What suits one method need not suit another.
        previous = {"config": {name: before[name] for name in ("fit_samples", "seed") if name in before}}
    return filled(ClusterConfig, previous, {"workers": default_workers(), **given(flags)})


def _count_or_auto(name: str, text: str | None) -> int | str | None:
    if text is None or text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--{name.replace('_', '-')} {text}: expected a number, or 'auto'") from None
