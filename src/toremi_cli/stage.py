"""The life of a stage's folder: planned, filled shard by shard, finished.

A shard carries the fingerprint of the plan it was written under, so an interrupted stage goes on where it stopped, a
finished one is left alone, and one whose inputs or settings changed says why and is written anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toremi_cli import console
from toremi_cli.engine import ShardWork, run_shards
from toremi_cli.errors import TableError, ToremiError
from toremi_cli.files import find_json, remove_temporaries_in, remove_temporaries_of, write_json
from toremi_cli.layout import Workdir
from toremi_cli.locks import locked
from toremi_cli.provenance import Provenance, explain_difference, read_record
from toremi_cli.schemas import Table
from toremi_cli.tables import MANIFEST, ShardWriter, read_manifest, shard_name, shard_writer

PLAN = "_plan.json"
"""What is being made: settings, and the fingerprint of the provenance."""
HUB_CARD = ".huggingface.yaml"
LOADED_BY_DATASETS = 'configs:\n- config_name: default\n  data_files: "*.parquet"\n'
"""What keeps `datasets.load_dataset(folder)` from taking our JSON files for data where they outnumber the shards."""


@contextmanager
def alone_in(workdir: Workdir) -> Iterator[None]:
    """Hold a workdir's tables against other commands while the block runs, and sweep what killed ones left in it.

    Raises:
        BusyError: another command is at work there.
    """
    try:
        with locked(workdir.root / ".lock", workdir.root, "let it end, or name another --workdir"):
            for folder in (workdir.samples, workdir.embeddings, workdir.clusters, workdir.annotated):
                remove_temporaries_in(folder)
            for path in (workdir.tokenizer, workdir.topics):
                remove_temporaries_of(path)
            yield
    finally:
        with suppress(OSError):
            workdir.root.rmdir()  # where nothing came of it


def previous_plan(folder: Path) -> dict[str, Any] | None:
    """With what settings a folder's table was made, or is being made since; None where there is neither."""
    plan, manifest = find_json(folder / PLAN), read_manifest(folder)
    if plan is None or (manifest is not None and plan.get("fingerprint") == manifest["fingerprint"]):
        return manifest
    return plan


def is_users_own(folder: Path, table: Table) -> bool:
    """Whether Parquet files stand there that toremi did not write as this table."""
    records = []
    for path in folder.glob("*.parquet"):
        with suppress(pa.ArrowInvalid, OSError):
            records.append(read_record(pq.read_schema(path).metadata) or {})
    return bool(records) and all(record.get("table") != table.name for record in records)


class StageFolder:
    """A folder that a stage fills with the shards of one table."""

    def __init__(self, folder: Path, table: Table, provenance: Provenance) -> None:
        """Plan to hold `table` in `folder`. Nothing is touched before `begin`.

        Raises:
            TableError: the folder holds another kind of table.
        """
        self.folder, self.table, self.provenance = folder, table, provenance
        if folder.exists() and not folder.is_dir():
            raise TableError(f"{folder}: is a file; expected a folder for the '{table.name}' table")
        self._refuse_foreign_contents()

    def is_finished(self) -> bool:
        """Whether the folder is complete and up to date."""
        manifest = read_manifest(self.folder)
        if manifest is None or manifest["fingerprint"] != self.provenance.fingerprint:
            return False
        return all(self.is_shard_done(index) for index in range(manifest["num_shards"]))

    def up_to_date(self) -> dict[str, Any] | None:
        """The manifest, if the folder is complete and up to date: then that is said, and nothing is left to do."""
        if not self.is_finished():
            return None
        console.note(f"{self.folder}: up to date")
        self.confirm()
        return read_manifest(self.folder)

    def confirm(self) -> None:
        """Mark a finished folder as looked at, so that `make` sees it newer than its inputs."""
        (self.folder / MANIFEST).touch()

    @contextmanager
    def planned(self, **facts: Any) -> Iterator[None]:
        """Keep the plan while what may be wrong with it shows: a refused one goes again, an interrupted one stays.

        The table that is there stays whole meanwhile: call `begin` when the plan is known to be good.
        """
        path = self.folder / PLAN
        earlier = find_json(path)
        write_json(path, {"fingerprint": self.provenance.fingerprint, "config": self.provenance.config, **facts})
        try:
            yield
        except ToremiError:
            if earlier is None:
                path.unlink()
            else:
                write_json(path, earlier)
            raise

    def begin(self) -> None:
        """Start or resume writing: say why if the folder is stale, and open it."""
        manifest = read_manifest(self.folder)
        if manifest is not None:
            if manifest["fingerprint"] != self.provenance.fingerprint:
                why = explain_difference(manifest, self.provenance)
                console.note(f"{self.folder}: out of date ({why}); writing it anew")
            (self.folder / MANIFEST).unlink()
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_temporaries_in(self.folder)

    def path(self, index: int) -> Path:
        """Where shard `index` stands."""
        return self.folder / shard_name(index)

    def is_shard_done(self, index: int) -> bool:
        """Whether shard `index` is there, whole, and of this plan."""
        record = _record_at(self.path(index))
        return record is not None and record.get("fingerprint") == self.provenance.fingerprint

    def pending(self, num_shards: int) -> Iterator[int]:
        """The shards of 0..num_shards-1 that are still to be written."""
        return (index for index in range(num_shards) if not self.is_shard_done(index))

    def fill(
        self,
        work: ShardWork,
        rows_per_shard: Sequence[int],
        doing: str,
        *,
        engine: str = "local",
        workers: int = 1,
        num_gpus: float = 0,
        worth_sharing: int = 0,
    ) -> None:
        """Do `work` for each shard that is still to be written, see `run_shards`; say how far it is.

        Where fewer shards are left than are worth sharing, it is done in this process.
        """
        pending = list(self.pending(len(rows_per_shard)))
        if len(pending) < worth_sharing:
            engine, workers = "local", 1
        with console.progress(doing, total=sum(rows_per_shard)) as bar:
            bar.advance(sum(rows_per_shard) - sum(rows_per_shard[shard] for shard in pending))
            for shard in run_shards(work, pending, engine=engine, workers=workers, num_gpus=num_gpus):
                bar.advance(rows_per_shard[shard])

    def writer(self, index: int, dim: int | None = None) -> AbstractContextManager[ShardWriter]:
        """Open shard `index` for writing."""
        return shard_writer(self.path(index), self.table, self.provenance, dim)

    def finish(self, num_shards: int, **facts: Any) -> dict[str, Any]:
        """Remove shards of an older, longer table and write the manifest; return it.

        `facts` are kept in the manifest (counts, notes).

        Raises:
            TableError: a shard is missing.
        """
        missing = [index for index in range(num_shards) if not self.is_shard_done(index)]
        if missing:
            raise TableError(f"{self.path(missing[0])}: was not written; run the same command again to go on")
        keep = {shard_name(index) for index in range(num_shards)}
        for path in self.folder.glob("part-*.parquet"):
            if path.name not in keep:
                path.unlink()
        num_rows = sum(pq.read_metadata(self.path(index)).num_rows for index in range(num_shards))
        record = {**asdict(self.provenance), "fingerprint": self.provenance.fingerprint}
        manifest = {**record, "num_shards": num_shards, "num_rows": num_rows, **facts}
        (self.folder / HUB_CARD).write_text(LOADED_BY_DATASETS, encoding="utf-8")
        write_json(self.folder / MANIFEST, manifest)
        return manifest

    def _refuse_foreign_contents(self) -> None:
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                record = read_record(pq.read_schema(path).metadata)
            except (pa.ArrowInvalid, OSError):
                continue  # a damaged file holds nothing to protect
            if record is None or record.get("table") != self.table.name:
                what = f"a '{record['table']}' table" if record else "Parquet files that toremi did not write"
                raise TableError(
                    f"{self.folder}: holds {what}; will not overwrite it with a '{self.table.name}' table: "
                    "name another folder or move it away"
                )
            return


def _record_at(path: Path) -> dict[str, Any] | None:
    """The provenance of a file, None if it is absent, damaged or foreign."""
    with suppress(FileNotFoundError, pa.ArrowInvalid, OSError):
        return read_record(pq.read_schema(path).metadata)
    return None
