"""What can be said of any table on disk, ours or not."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toremi_cli.errors import TableError, reason, some
from toremi_cli.provenance import read_record
from toremi_cli.schemas import TABLES, Table
from toremi_cli.tables import TableReader

MOST_SHOWN = 8
"""Tables of a folder that an error names."""


def describe_table(path: Path, num_rows: int) -> dict[str, Any]:
    """Kind, provenance, size, columns and the first `num_rows` rows of the table at `path`.

    Raises:
        TableError: nothing there, damaged, unfinished, or not one of our kinds of tables.
    """
    table = _kind_of(path)
    reader = TableReader(path, table)
    known = {column.name: column for column in (*table.columns, *table.optional)}
    columns = [
        {
            "name": field.name,
            "type": str(field.type),
            "unit": known[field.name].unit if field.name in known else "",
            "meaning": (known[field.name].meaning if field.name in known else "(not part of the contract)")
            + ("; not there, filled in" if field.name in reader.absent else ""),
        }
        for field in reader.schema
    ]
    rows = islice(
        (row for batch in reader.iter_batches(batch_size=max(num_rows, 1)) for row in batch.to_pylist()), num_rows
    )
    return {
        "path": str(path),
        "table": table.name,
        "meaning": table.meaning,
        "num_rows": reader.num_rows,
        "num_shards": len(reader.shards),
        "num_bytes": sum(shard.stat().st_size for shard in reader.shards),
        "provenance": {k: v for k, v in (reader.record or {}).items() if k not in ("table", "schema_version")},
        "columns": columns,
        "rows": list(rows),
    }


def _tables_within(path: Path) -> list[str]:
    """The tables of a workdir or of a run's folder, by name; none where the folder is itself a table."""
    if not path.is_dir():
        return []
    inner = sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "_")))
    folders = [entry for entry in inner if next(entry.glob("*.parquet"), None) is not None]
    return [entry.name for entry in inner if entry in folders or (folders and entry.suffix == ".parquet")]


def _kind_of(path: Path) -> Table:
    """The kind named in the file's provenance, else that with the most columns, all of which or enough are there."""
    shards = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if inner := _tables_within(path):
        shown = some(inner, MOST_SHOWN)
        raise TableError(f"{path}: a folder of several tables, not a table; inspect one of those in it: {shown}")
    if not shards:
        what = "no Parquet file in this folder" if path.is_dir() else "no such file or folder"
        raise TableError(f"{path}: {what}; expected a table of toremi ({', '.join(TABLES)})")
    try:
        schema = pq.read_schema(shards[0])
    except (pa.ArrowInvalid, OSError) as problem:
        raise TableError(
            f"{shards[0]}: not a whole Parquet file ({reason(problem)}); "
            "write it anew with the command that it came from"
        ) from None
    record = read_record(schema.metadata)
    if record and record.get("table") in TABLES:
        return TABLES[record["table"]]
    there = set(schema.names)
    fitting = [table for table in TABLES.values() if there.issuperset(table.column_names)]
    fitting = fitting or [table for table in TABLES.values() if table.enough and there.issuperset(table.enough)]
    if not fitting:
        raise TableError(
            f"{path}: columns {', '.join(schema.names)} fit no table of toremi; expected one of {', '.join(TABLES)}"
        )
    return max(fitting, key=lambda table: len(table.columns))
