"""Where a table comes from: who wrote it, with which settings, from which inputs.

The record travels in the Parquet metadata of every file. Its `fingerprint` is a hash of the table's kind, the settings
that change its contents and the fingerprints of its inputs, so that "is this still right?" needs no file times.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from toremi_cli import __version__
from toremi_cli.schemas import Table

METADATA_KEY = b"toremi"


@dataclass(frozen=True)
class Provenance:
    """The record in a file's metadata.

    `config` holds the settings that change the contents; `inputs` maps the name of each input to its fingerprint.
    """

    table: str
    schema_version: int
    command: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    toremi_version: str = __version__
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def fingerprint(self) -> str:
        """16 hex digits over kind, schema version, config and inputs; not over version and date."""
        return digest(self.table, self.schema_version, self.config, self.inputs)

    def metadata(self) -> dict[bytes, bytes]:
        """The Parquet key-value metadata."""
        record = {**asdict(self), "fingerprint": self.fingerprint}
        return {METADATA_KEY: json.dumps(record, sort_keys=True).encode()}


def provenance_of(table: Table, command: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> Provenance:
    """The record for files of `table` that `command` writes from `inputs`."""
    # Through JSON once, so that the fingerprint is the same whether read back from a file or not.
    return Provenance(table.name, table.version, command, json.loads(json.dumps(config)), dict(inputs))


def read_record(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any] | None:
    """The provenance in Parquet metadata, None where a foreign program wrote the file."""
    raw = (metadata or {}).get(METADATA_KEY)
    return json.loads(raw) if raw else None


def digest(*parts: Any) -> str:
    """16 hex digits that identify JSON-able values."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def explain_difference(old: Mapping[str, Any], new: Provenance) -> str:
    """Why a table with the record `old` is stale, in words: 'max_tokens was 512, is 1024'."""
    reasons = []
    if old.get("schema_version") != new.schema_version:
        reasons.append(f"schema version was {old.get('schema_version')}, is {new.schema_version}")
    before, after = old.get("config", {}), new.config
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            was, now = ("auto" if side.get(key) is None else repr(side[key]) for side in (before, after))
            reasons.append(f"{key} was {was}, is {now}")
    before, after = old.get("inputs", {}), new.inputs
    reasons += [f"{key} changed" for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    return "; ".join(reasons) or "written by another version"
