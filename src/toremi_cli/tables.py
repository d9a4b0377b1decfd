"""Reading and writing the tables of `schemas`: Parquet files and folders of Parquet shards.

A file appears whole or not at all: it is written under a temporary name and then renamed. A folder of shards is
finished when its `_manifest.json` stands beside them; Parquet readers ignore names that begin with an underscore, so
`pyarrow.dataset.dataset(folder)`, duckdb and pandas read such a folder as one table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from toremi_cli.errors import TableError, reason
from toremi_cli.files import atomic_file, read_json
from toremi_cli.filling import columns_to_read, complete_batch, completed
from toremi_cli.provenance import Provenance, digest, read_record
from toremi_cli.schemas import Table

MANIFEST = "_manifest.json"
COMPRESSION = "zstd"


def shard_name(index: int) -> str:
    """Name of shard `index` in any folder of tables."""
    return f"part-{index:05d}.parquet"


class ShardWriter:
    """Writes batches of rows to one open Parquet file."""

    def __init__(self, file: IO[bytes] | str, schema: pa.Schema) -> None:
        floats = [path for field in schema for path, kind in _leaves(field) if _is_list(field) and _is_float(kind)]
        others = [path for field in schema for path, _ in _leaves(field) if path not in floats]
        # No two floats of a vector are the same, so a dictionary only adds to them; split by byte they are 40% smaller.
        self._writer = pq.ParquetWriter(
            file, schema, compression=COMPRESSION, use_dictionary=others, use_byte_stream_split=floats
        )
        self.schema = schema
        self.num_rows = 0

    def write(self, rows: pa.Table | pa.RecordBatch | Sequence[dict[str, Any]]) -> None:
        """Append rows as one row group."""
        if isinstance(rows, pa.RecordBatch):
            rows = pa.Table.from_batches([rows])
        elif not isinstance(rows, pa.Table):
            rows = pa.Table.from_pylist(list(rows), schema=self.schema)
        self._writer.write_table(rows.select(self.schema.names).cast(self.schema).replace_schema_metadata(None))
        self.num_rows += rows.num_rows

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


def _leaves(field: pa.Field, within: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """The columns that Parquet makes of a field: path and type."""
    path, kind = within + field.name, field.type
    if _is_list(field):
        yield from _leaves(kind.value_field.with_name("element"), f"{path}.list.")
    elif pa.types.is_struct(kind):
        for inner in kind:
            yield from _leaves(inner, f"{path}.")
    else:
        yield path, kind


def _is_list(field: pa.Field) -> bool:
    return pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)


def _is_float(kind: pa.DataType) -> bool:
    return pa.types.is_float32(kind) or pa.types.is_float64(kind)


@contextmanager
def shard_writer(path: Path, table: Table, provenance: Provenance, dim: int | None = None) -> Iterator[ShardWriter]:
    """Open `path` for writing rows of `table`; the file appears when the block ends without an error."""
    schema = table.arrow_schema(dim).with_metadata(provenance.metadata())
    with atomic_file(path) as temporary:
        writer = ShardWriter(str(temporary), schema)
        try:
            yield writer
        finally:
            writer.close()


def write_table(
    path: Path,
    table: Table,
    rows: pa.Table | pa.RecordBatch | Sequence[dict[str, Any]],
    provenance: Provenance,
    dim: int | None = None,
) -> None:
    """Write a whole table to one file."""
    with shard_writer(path, table, provenance, dim) as writer:
        writer.write(rows)


def open_shard(path: Path, table: Table) -> pq.ParquetFile:
    """Open one Parquet file and check that it is a `table`.

    Raises:
        TableError: the file is missing, damaged, or lacks a column of the table.
    """
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file; expected {table.shown}") from None
    except (pa.ArrowInvalid, OSError) as problem:
        if number := getattr(problem, "errno", None):  # the file may be well: no permission, a disk that fails
            raise TableError(f"{path}: cannot be opened ({os.strerror(number)})") from None
        raise TableError(
            f"{path}: not a whole Parquet file ({reason(problem)}); delete it and run the command that writes it again"
        ) from None
    _check_columns(path, file.schema_arrow, table)
    return file


def _check_columns(path: Path, found: pa.Schema, table: Table) -> None:
    needed = table.enough or table.column_names
    missing = [name for name in needed if name not in found.names]
    if missing:
        raise TableError(
            f"{path}: not {table.shown}: without {', '.join(missing)} (found {', '.join(found.names) or 'no columns'})"
        )
    for column in (c for c in (*table.columns, *table.optional) if c.name in found.names):
        actual = found.field(column.name).type
        if not _compatible(actual, column.type):
            expected = column.type if column.type is not None else "fixed-size list of float"
            raise TableError(f"{path}: column '{column.name}' has type {actual}, expected {expected}")


def _compatible(actual: pa.DataType, expected: pa.DataType | None) -> bool:
    """Whether values of type `actual` can stand for `expected`: other widths and list kinds are no obstacle."""
    if expected is None or pa.types.is_list(expected):
        return pa.types.is_list(actual) or pa.types.is_large_list(actual) or pa.types.is_fixed_size_list(actual)
    if pa.types.is_string(expected):
        is_text = pa.types.is_string(actual) or pa.types.is_large_string(actual) or pa.types.is_string_view(actual)
        return is_text or pa.types.is_dictionary(actual)
    if pa.types.is_integer(expected):
        return pa.types.is_integer(actual)
    if pa.types.is_floating(expected):
        return pa.types.is_floating(actual) or pa.types.is_integer(actual) or pa.types.is_null(actual)
    return actual == expected


class TableReader:
    """A table on disk: one Parquet file, or a folder of shards in the order of their names."""

    def __init__(self, path: Path, table: Table) -> None:
        """Check every shard's footer; rows are read later.

        Raises:
            TableError: nothing there, unfinished, damaged, or another table.
        """
        self.path, self.table = path, table
        self.shards = list_shards(path, table)
        self.rows_per_shard: list[int] = []
        schemas: list[pa.Schema] = []
        for shard in self.shards:
            with open_shard(shard, table) as file:  # closed at once: there are more shards than files may be open
                self.rows_per_shard.append(file.metadata.num_rows)
                schemas.append(file.schema_arrow)
        self.num_rows = sum(self.rows_per_shard)
        self._there: list[str] = schemas[0].names
        self.schema: pa.Schema = completed(schemas[0], table.column_names if table.enough else ())
        record = read_record(self.schema.metadata)
        # What others make of one of our tables may carry that one's provenance along.
        self.record = record if record and (table.grows or record.get("table") == table.name) else None
        _check_finished(path, table, schemas)

    @property
    def absent(self) -> list[str]:
        """Columns of the table that aren't there; most are filled in."""
        return [name for name in self.table.column_names if name not in self._there]

    @property
    def fingerprint(self) -> str:
        """Identifies the contents: the provenance's fingerprint, or the shards' sizes and times if foreign."""
        if self.record:
            return str(self.record["fingerprint"])
        stats = [(shard.name, shard.stat().st_size, shard.stat().st_mtime_ns) for shard in self.shards]
        return digest("foreign", stats)

    def iter_batches(
        self, columns: Sequence[str] | None = None, batch_size: int = 4096, shards: Sequence[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream the rows, `batch_size` at a time, of all shards or of those numbered in `shards`.

        Raises:
            TableError: a shard is damaged, or a column isn't there and can't be filled in.
        """
        names = list(columns) if columns else self.schema.names
        lacking = [name for name in names if name not in self.schema.names]
        if lacking:
            raise TableError(f"{self.path}: has no column {', '.join(lacking)}, which this needs; add it")
        is_whole = all(name in self._there for name in names)
        read = names if is_whole else columns_to_read(names, self._there)
        for index in range(len(self.shards)) if shards is None else shards:
            file = open_shard(self.shards[index], self.table)
            row = 0
            try:
                for batch in file.iter_batches(batch_size=batch_size, columns=read):
                    yield batch if is_whole else complete_batch(batch, names, self.shards[index].stem, row)
                    row += batch.num_rows
            except (pa.ArrowInvalid, OSError) as problem:
                where = self.shards[index]
                raise TableError(f"{where}: damaged ({reason(problem)}); delete it and write it again") from None

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read everything into memory: for tables that are known to be small."""
        names = list(columns) if columns else self.schema.names
        schema = pa.schema([self.schema.field(name) for name in names])
        batches = [batch.select(names).cast(schema) for batch in self.iter_batches(names)]
        return pa.Table.from_batches(batches, schema=schema)


@lru_cache(maxsize=4)
def opened_once(path: Path, table: Table, plan: str) -> TableReader:
    """A table for work on one shard after another: it looks at the footer of each, so a process opens it once.

    `plan` changes when the table does: the fingerprint of what is made of it.
    """
    return TableReader(path, table)


def list_shards(path: Path, table: Table) -> list[Path]:
    """The Parquet files that make up a table.

    Raises:
        TableError: no such path, or a folder without Parquet files.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise TableError(f"{path}: no such file or folder; expected {table.shown}")
    shards = sorted(p for p in path.glob("*.parquet") if not p.name.startswith((".", "_")))
    if not shards:
        raise TableError(f"{path}: no Parquet file in this folder; expected {table.shown}")
    return shards


def _check_finished(path: Path, table: Table, schemas: Sequence[pa.Schema]) -> None:
    """Refuse a folder that one of our stages left half-written."""
    records = [read_record(schema.metadata) for schema in schemas]
    ours = [r for r in records if r is not None and r.get("table") == table.name]
    if not ours or path.is_file() or table.grows:
        return
    manifest = read_manifest(path)
    fingerprints = {r["fingerprint"] for r in ours}
    if manifest is None or fingerprints != {manifest["fingerprint"]} or manifest["num_shards"] != len(schemas):
        command = ours[0].get("command", "the command that writes it").split(" ")[0:2]
        raise TableError(f"{path}: this '{table.name}' table is unfinished; run `{' '.join(command)}` again to go on")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The completion record of a folder, None if it has none."""
    try:
        return read_json(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise TableError(f"{folder / MANIFEST}: not valid JSON; delete it and run the stage again") from None
