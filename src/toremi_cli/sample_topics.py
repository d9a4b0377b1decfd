"""Which topics a sample has, by each of the ways that `--topics` names: training and all that judges it agree on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toremi_cli.errors import TableError, UsageError
from toremi_cli.policy_config import TOPIC_MODES
from toremi_cli.schemas import ANNOTATED, NO_TOPIC, TOPICS
from toremi_cli.tables import TableReader


def topic_name(names: list[str], topic: int) -> str:
    """Name of a topic, by the table `topics` or, where that lacks it, by its number."""
    return names[topic] if topic < len(names) else f"topic-{topic}"


@dataclass(frozen=True)
class FineTopics:
    """What table `topics` tells of topics 0, 1, …"""

    names: list[str]
    crowding: list[float] | None
    """How many topics are of each one's kind, itself included; None where the table doesn't tell."""


def read_fine_topics(table: Path) -> FineTopics:
    """Names and crowding by the table `topics`; no topics where there is no table."""
    if not table.is_file():
        return FineTopics([], None)
    reader = TableReader(table, TOPICS)
    extra = ["crowding"] if "crowding" in reader.schema.names else []
    by_id = {row["topic"]: row for row in reader.read(["topic", "name", *extra]).sort_by("topic").to_pylist()}
    names = [by_id[k]["name"] if k in by_id else f"topic-{k}" for k in range(max(by_id, default=-1) + 1)]
    crowding = [row["crowding"] for row in by_id.values() if row.get("crowding") is not None]
    return FineTopics(names, crowding if len(crowding) == len(names) else None)


def belong_together(annotated: TableReader, topics: Path) -> bool:
    """Whether topic 3 of the annotated table is topic 3 of the table `topics`, as far as their records tell."""
    if not topics.is_file():
        return True
    clusters, others = (
        ((reader.record or {}).get("inputs") or {}).get("clusters")
        for reader in (annotated, TableReader(topics, TOPICS))
    )
    return clusters is None or others is None or clusters == others


def check_together(annotated: TableReader, topics: Path) -> None:
    """Refuse tables that don't belong together.

    Raises:
        TableError: clustered anew since, but not annotated.
    """
    if not belong_together(annotated, topics):
        raise TableError(f"{annotated.path}: of other clusters than {topics}; run `toremi annotate` again")


class SampleTopics:
    """Reads a sample's topics off a row of the annotated table."""

    def __init__(self, mode: str, table: Path, annotated: Path | None = None) -> None:
        """`mode` is one of `policy_config.TOPIC_MODES`, `table` the workdir's `topics`, `annotated` what has the rows.

        Raises:
            UsageError: no such mode (a run of an earlier version may have one).
            TableError: topics by name, and the two tables don't belong together.
        """
        if mode not in TOPIC_MODES:
            raise UsageError(f"topics by '{mode}': expected one of {', '.join(TOPIC_MODES)}")
        if mode == "fine" and annotated is not None and annotated.exists():
            check_together(TableReader(annotated, ANNOTATED), table)
        self.mode = mode
        self.names = read_fine_topics(table).names if mode == "fine" else []

    @property
    def columns(self) -> list[str]:
        """What it needs of the annotated table."""
        return {"labels": ["labels"], "fine": ["topic"], "source": ["source"]}[self.mode]

    def of(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Names of a sample's topics, each with its part of the sample; parts sum to 1, empty without topics."""
        if self.mode == "source":
            return {row["source"]: 1.0}
        if self.mode == "labels":
            labels = dict.fromkeys(row["labels"] or ())
            return dict.fromkeys(labels, 1 / max(len(labels), 1))
        topic = row["topic"]
        return {} if topic is None or topic == NO_TOPIC else {topic_name(self.names, topic): 1.0}
