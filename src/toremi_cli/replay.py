"""The pure policy run on a table of losses, without training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from toremi_cli import console
from toremi_cli.errors import TableError, UsageError
from toremi_cli.provenance import provenance_of
from toremi_cli.reweight import IntervalStats, MissingNeed, PolicyConfig, StageSwitch, make_policy, policy_class
from toremi_cli.reweight.policies.base import MEASURES, NEEDS
from toremi_cli.reweight.stage_switch import NEVER, PLATEAU
from toremi_cli.schemas import LOSSES, WEIGHTS
from toremi_cli.tables import TableReader, write_table

OPTIONAL_MEASURES = sorted((MEASURES & NEEDS.keys()) - set(LOSSES.column_names))
"""Columns that policies may need besides losses; a table may have them."""


@dataclass(frozen=True)
class LossCourse:
    """Topic losses by interval, as matrices."""

    topics: list[str]
    """Names in alphabetical order."""
    steps: np.ndarray
    """(num_steps,) int64, ascending."""
    loss: np.ndarray
    """(num_steps, num_topics) float64; NaN where unseen."""
    num_samples: np.ndarray
    """(num_steps, num_topics) int64; 0 where unseen."""
    tokens_seen: np.ndarray
    """(num_steps,) int64; 0 where the table doesn't tell."""
    switch_step: int | None = None
    """First step that the table's own stage 2 updated, where it tells."""
    measures: dict[str, np.ndarray] = field(default_factory=dict)
    """(num_steps, num_topics) float64 each: other fields of `IntervalStats` that the table has; NaN where unseen."""


def read_losses(path: Path) -> tuple[LossCourse, str]:
    """Read a table of losses, a file or a folder, rows in any order; also return its fingerprint.

    Raises:
        TableError: not such a table, no rows, a null where none may be, a loss that is NaN, infinite or negative, two
            rows for one topic and step.
    """
    reader = TableReader(path, LOSSES)
    extra = [name for name in ("tokens_seen", "stage") if _has_integers(reader.schema, name)]
    measured = [name for name in OPTIONAL_MEASURES if _has_floats(reader.schema, name)]
    table = reader.read([*LOSSES.column_names, *extra, *measured])
    if table.num_rows == 0:
        raise TableError(f"{path}: has no rows; expected one for each topic and interval")
    for name in ("step", "topic", "num_samples"):
        if table[name].null_count:
            row = table[name].is_null().to_numpy().argmax()
            raise TableError(f"{path}: row {row}: {name} is null; expected a value")
    topics, topic = np.unique(
        np.asarray(table["topic"].cast(pa.string()).to_pylist(), dtype=object), return_inverse=True
    )
    steps, step = np.unique(table["step"].cast(pa.int64()).to_numpy(), return_inverse=True)
    num_samples = table["num_samples"].cast(pa.int64()).to_numpy()
    unseen = table["loss"].is_null().to_numpy() | (num_samples == 0)
    loss = table["loss"].cast(pa.float64()).to_numpy()
    _check_rows(path, table, loss, num_samples, unseen)
    cell = step * len(topics) + topic
    _check_unique(path, table, cell)
    shape = (len(steps), len(topics))
    seen_cell = cell[~unseen]
    counts, tokens = np.zeros(shape, np.int64), np.zeros(len(steps), np.int64)
    counts.flat[seen_cell] = num_samples[~unseen]
    if "tokens_seen" in extra:
        np.maximum.at(tokens, step, table["tokens_seen"].fill_null(0).cast(pa.int64()).to_numpy())
    own_switch = steps[step[table["stage"].fill_null(1).to_numpy() == 2]].tolist() if "stage" in extra else []
    switch_step = min(own_switch, default=None)
    matrices = {}
    for name in ("loss", *measured):
        matrices[name] = np.full(shape, 0.0 if name.startswith("num_") else np.nan)  # counts are 0, as in a run
        matrices[name].flat[seen_cell] = table[name].cast(pa.float64()).to_numpy()[~unseen]
    course = LossCourse(list(topics), steps, matrices.pop("loss"), counts, tokens, switch_step, matrices)
    return course, reader.fingerprint


def replay(course: LossCourse, config: PolicyConfig) -> Iterator[tuple[int, np.ndarray]]:
    """Run a policy over the course; yield the stage and the weights, (num_topics,) float64, of each step.

    Raises:
        UsageError: the policy needs more than the table has.
    """
    if policy_class(config.name).sample_level:
        raise UsageError(f"--policy {config.name}: weighs single samples within a batch; a table of topics has none")
    try:
        policy = make_policy(config, course.topics)
        policy.check_measures({"loss", "num_samples", *course.measures})
        if config.loss_unit == "byte" and "loss_per_byte" not in course.measures:
            raise MissingNeed(config.name, "loss_per_byte")
    except MissingNeed as problem:
        raise UsageError(f"--policy {config.name}: {problem}; {_where_to_get(problem.need)}") from None
    except ValueError as problem:
        raise UsageError(f"--policy {config.name}: {problem}") from None
    switch = StageSwitch(config.stage_switch, int(course.steps[-1]))
    for i, step in enumerate(course.steps.tolist()):
        stage = switch.stage_for(step)
        measures: dict[str, Any] = {name: torch.from_numpy(values[i]) for name, values in course.measures.items()}
        loss, num_samples = torch.from_numpy(course.loss[i]), torch.from_numpy(course.num_samples[i])
        stats = IntervalStats(step=step, loss=loss, num_samples=num_samples, **measures)
        yield policy.stage_of(stage), policy.update(stats, stage).numpy()


def _where_to_get(need: str) -> str:
    if need not in MEASURES:
        return "a table of losses does not have that"
    return f"the table has no column {need!r}: a run that measured it, by this version, writes one"


def replay_table(losses: Path, out: Path, config: PolicyConfig) -> dict[str, Any]:
    """Read losses, run the policy, write a `weights` table to `out`; return a summary of the last step.

    Raises:
        TableError: see `read_losses`.
        UsageError: `out` would overwrite the losses.
    """
    if out.resolve() == losses.resolve() or out.resolve().parent == losses.resolve():
        raise UsageError(f"--output {out}: would overwrite or mix with the losses that are read; name another file")
    if out.is_dir():
        raise UsageError(f"--output {out}: is a folder; expected the name of a Parquet file to write")
    course, fingerprint = read_losses(losses)
    if (
        course.switch_step is not None
        and config.stage_switch in (PLATEAU, NEVER)
        and policy_class(config.name).num_stages > 1
    ):
        console.note(
            f"{losses}: was in stage 2 from step {course.switch_step} on; "
            f"--set stage_switch=step:{course.switch_step} follows it"
        )
    stages, weights = zip(*replay(course, config), strict=True)
    if (np.stack(weights) == weights[0]).all() and not policy_class(config.name).static and len(weights) > 1:
        console.warn(f"--policy {config.name}: no weight moved in {len(weights)} intervals of {losses}")
    provenance = provenance_of(WEIGHTS, "toremi replay", asdict(config), {"losses": fingerprint})
    write_table(out, WEIGHTS, _rows(course, np.array(stages), np.stack(weights)), provenance)
    return {
        "output": str(out),
        "policy": config.name,
        "num_steps": len(course.steps),
        "step": int(course.steps[-1]),
        "stage": stages[-1],
        "weights": dict(zip(course.topics, weights[-1].tolist(), strict=True)),
    }


def _rows(course: LossCourse, stages: np.ndarray, weights: np.ndarray) -> pa.Table:
    """Every topic at every step; `stages`: (num_steps,), `weights`: (num_steps, num_topics)."""
    num_steps, num_topics = weights.shape
    topic = pa.DictionaryArray.from_arrays(
        pa.array(np.tile(np.arange(num_topics, dtype=np.int32), num_steps)), course.topics
    )
    columns = {
        "step": np.repeat(course.steps, num_topics),
        "tokens_seen": np.repeat(course.tokens_seen, num_topics),
        "stage": np.repeat(stages.astype(np.int32), num_topics),
        "topic": topic.cast(pa.string()),
        "weight": weights.ravel(),
        "loss": pa.array(course.loss.ravel(), mask=course.num_samples.ravel() == 0),
        "num_samples": course.num_samples.ravel(),
    }
    return pa.table(columns, schema=WEIGHTS.arrow_schema())


def _has_floats(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and pa.types.is_floating(schema.field(name).type)


def _has_integers(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and pa.types.is_integer(schema.field(name).type)


def _check_rows(path: Path, table: pa.Table, loss: np.ndarray, num_samples: np.ndarray, unseen: np.ndarray) -> None:
    """Refuse losses and counts that cannot be."""
    for values, bad, expected in (
        (num_samples, num_samples < 0, "num_samples is {}; expected a count"),
        (loss, ~unseen & ~np.isfinite(loss), "loss is {}; expected a finite number, or null for a topic not seen"),
        (loss, ~unseen & (loss < 0), "loss is {}; expected a cross-entropy, which is never negative"),
    ):
        if bad.any():
            raise TableError(f"{_where(path, table, int(bad.argmax()))}: {expected.format(values[bad.argmax()])}")


def _check_unique(path: Path, table: pa.Table, cell: np.ndarray) -> None:
    """Refuse two rows for one topic and step."""
    order = np.argsort(cell, kind="stable")
    repeated = np.flatnonzero(cell[order][1:] == cell[order][:-1])
    if len(repeated):
        first, second = sorted(order[repeated[0] : repeated[0] + 2].tolist())
        raise TableError(
            f"{_where(path, table, second)}: row {first} has this topic and step already; expected one row"
        )


def _where(path: Path, table: pa.Table, row: int) -> str:
    return f"{path}: row {row} (step {table['step'][row]}, topic {table['topic'][row].as_py()!r})"
