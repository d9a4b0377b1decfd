"""Tables that grow while a run lives: whole at any moment, and cut back to a checkpoint when the run resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from toremi_cli.provenance import Provenance
from toremi_cli.schemas import Table
from toremi_cli.tables import open_shard, shard_name, write_table

ROWS_PER_SHARD = 50_000


class GrowingTable:
    """A folder of shards to which rows are added.

    The newest shard is written anew at each flush, and closed at each checkpoint; a reader sees the rows up to the
    last flush.
    """

    def __init__(self, folder: Path, table: Table, provenance: Provenance) -> None:
        self.folder, self.table, self.provenance = folder, table, provenance
        self._rows: list[dict[str, Any]] = []
        self._shard = len(list(folder.glob("part-*.parquet")))
        self._dirty = False

    def add(self, **row: Any) -> None:
        """Add a row; it is on disk after the next flush."""
        self._rows.append(row)
        self._dirty = True

    def flush(self) -> None:
        """Write what has been added."""
        if self._dirty:
            write_table(self.folder / shard_name(self._shard), self.table, self._rows, self.provenance)
            self._dirty = False
        if len(self._rows) >= ROWS_PER_SHARD:
            self.close_shard()

    def close_shard(self) -> None:
        """Flush; later rows go to a new shard."""
        if self._rows:
            if self._dirty:
                write_table(self.folder / shard_name(self._shard), self.table, self._rows, self.provenance)
            self._rows, self._dirty = [], False
            self._shard += 1


def cut_back(folder: Path, table: Table, provenance: Provenance, last_step: int) -> None:
    """Remove the rows later than `last_step`."""
    for path in sorted(folder.glob("part-*.parquet")):
        rows = open_shard(path, table).read()
        kept = rows.filter(pc.less_equal(rows["step"], pa.scalar(last_step, pa.int64())))
        if kept.num_rows == 0:
            path.unlink()
        elif kept.num_rows < rows.num_rows:
            write_table(path, table, kept, provenance)
