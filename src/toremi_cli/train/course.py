"""The course of a run's topic weights, as its table tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toremi_cli.errors import TrainingError
from toremi_cli.schemas import WEIGHTS
from toremi_cli.tables import TableReader
from toremi_cli.train.record import read_run


def read_course(folder: Path) -> dict[str, Any]:
    """Last weight, loss and course of each topic, the largest weight first, with facts of the run.

    Raises:
        TrainingError: the run has no weights yet.
        TableError: its table is damaged.
    """
    table = folder / WEIGHTS.name
    if not any(table.glob("*.parquet")):
        raise TrainingError(f"{table}: no weights yet: they appear at the end of the first interval")
    rows = TableReader(table, WEIGHTS).read().sort_by("step").to_pylist()
    record = read_run(folder) or {}
    policy = record.get("config", {}).get("policy", {})
    topics: dict[str, dict[str, Any]] = {}
    for row in rows:
        topic = topics.setdefault(row["topic"], {"topic": row["topic"], "num_samples": 0, "loss": None, "course": []})
        topic["weight"] = row["weight"]
        topic["course"].append(row["weight"])
        topic["num_samples"] += row["num_samples"]
        if row["loss"] is not None:
            topic["loss"] = row["loss"]
    for topic in topics.values():
        topic["at_bound"] = _bound(topic["weight"], policy)
    values = [row["weight"] for row in rows]
    return {
        "policy": policy.get("name", "?"),
        "step": rows[-1]["step"],
        "max_steps": record.get("schedule", {}).get("max_steps", rows[-1]["step"]),
        "stage": rows[-1]["stage"],
        "num_intervals": len({row["step"] for row in rows}),
        "low": min(values),
        "high": max(values),
        "topics": sorted(topics.values(), key=lambda t: (-t["weight"], t["topic"])),
    }


def _bound(weight: float, policy: dict[str, Any]) -> str:
    """The bound at which a weight stands, empty if at none."""
    if policy.get("name") == "uniform":
        return ""
    return next((name for name in ("w_min", "w_max") if weight == policy.get(name)), "")
