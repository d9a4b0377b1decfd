"""Reads samples and their vectors side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from toremi_cli.errors import TableError
from toremi_cli.tables import TableReader

BATCH_ROWS = 4096


def joined_batches(
    samples: TableReader, embeddings: TableReader, shard: int, batch_rows: int
) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Rows of one shard of `samples` (sample_id, text) and their vectors (num_rows, dim).

    Raises:
        TableError: the rows of the two tables aren't those of the same samples in the same order.
    """
    vectors = rebatched(embeddings, ["sample_id", "vector"], shard, batch_rows)
    for rows, others in zip(rebatched(samples, ["sample_id", "text"], shard, batch_rows), vectors, strict=True):
        if not _ids(rows).equals(_ids(others)):
            raise TableError(
                f"{embeddings.shards[shard]}: its samples are not those of {samples.shards[shard]} in the same order; "
                "run `toremi embed` again"
            )
        yield rows, vectors_of(others["vector"].combine_chunks())


def rebatched(table: TableReader, columns: list[str], shard: int, batch_rows: int) -> Iterator[pa.Table]:
    """The shard's rows, exactly `batch_rows` at a time but for the last, whatever the file's row groups are."""
    held: pa.Table | None = None
    for batch in table.iter_batches(columns, batch_rows, [shard]):
        new = pa.Table.from_batches([batch])
        held = new if held is None else pa.concat_tables([held, new])
        while held.num_rows >= batch_rows:
            yield held.slice(0, batch_rows)
            held = held.slice(batch_rows)
    if held is not None and held.num_rows:
        yield held


def vectors_of(column: pa.Array) -> np.ndarray:
    """(num_rows, dim) float32 of a column of lists."""
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return values.reshape(len(column), -1)


def _ids(rows: pa.Table) -> pa.Array:
    return rows["sample_id"].combine_chunks().cast(pa.string())
