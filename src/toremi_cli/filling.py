"""Columns that a table of another program may lack, made from those that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from toremi_cli.schemas import NO_TOPIC, TRAIN

Filler = Callable[[pa.RecordBatch, str, int], pa.Array]
"""Called with a batch, the name of its shard, and the number of its first row in that."""


def _number_rows(batch: pa.RecordBatch, shard: str, first: int) -> pa.Array:
    return pa.array([f"{shard}:{row}" for row in range(first, first + batch.num_rows)], pa.string())


def _constant(value: str | int | float | None, kind: pa.DataType) -> Filler:
    return lambda batch, shard, first: pa.array([value] * batch.num_rows, kind)


def _empty_lists(kind: pa.DataType) -> Filler:
    return lambda batch, shard, first: pa.array([[]] * batch.num_rows, pa.list_(kind))


def _copy_id(batch: pa.RecordBatch, shard: str, first: int) -> pa.Array:
    return batch.column("sample_id") if "sample_id" in batch.schema.names else _number_rows(batch, shard, first)


def _count_bytes(batch: pa.RecordBatch, shard: str, first: int) -> pa.Array:
    return pc.fill_null(pc.binary_length(batch.column("text")), 0).cast(pa.int64())


FILLERS: dict[str, tuple[pa.DataType, str | None, Filler]] = {
    "sample_id": (pa.string(), None, _number_rows),
    "doc_id": (pa.string(), "sample_id", _copy_id),
    "source": (pa.string(), None, _constant("corpus", pa.string())),
    "split": (pa.string(), None, _constant(TRAIN, pa.string())),
    "num_bytes": (pa.int64(), "text", _count_bytes),
    "topic": (pa.int32(), None, _constant(NO_TOPIC, pa.int32())),
    "labels": (pa.list_(pa.string()), None, _empty_lists(pa.string())),
    "probs": (pa.list_(pa.float32()), None, _empty_lists(pa.float32())),
    "agreement": (pa.float32(), None, _constant(None, pa.float32())),
}
"""By column: its type, the column that it is made from, and how."""


def completed(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """A table's schema with those of the columns `names` that it lacks and that can be filled in."""
    for name in names:
        if name not in schema.names and name in FILLERS:
            schema = schema.append(pa.field(name, FILLERS[name][0]))
    return schema


def columns_to_read(names: Sequence[str], there: Sequence[str]) -> list[str]:
    """The columns to read in order to have the columns `names`; at least one, so that rows can be counted."""
    made_from = [FILLERS[name][1] for name in names if name not in there]
    wanted = [name for name in (*names, *made_from) if name is not None and name in there]
    return list(dict.fromkeys(wanted)) or list(there[:1])


def complete_batch(batch: pa.RecordBatch, names: Sequence[str], shard: str, first: int) -> pa.RecordBatch:
    """The columns `names` of a batch, those that it lacks filled in."""
    there = set(batch.schema.names)
    columns = [batch.column(n) if n in there else FILLERS[n][2](batch, shard, first) for n in names]
    return pa.RecordBatch.from_arrays(columns, names=list(names))
