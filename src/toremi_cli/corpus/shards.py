"""Writing documents as a folder of jsonl.zst files, which every corpus reader understands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

SHARD_BYTES = 256_000_000
"""Text in one file, before compression."""


class JsonlShards(AbstractContextManager["JsonlShards"]):
    """Appends JSON objects to `part-00000.jsonl.zst`, `part-00001.jsonl.zst`, … in a folder of its own."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._shard_bytes = folder, shard_bytes
        self._num_shards = self._num_bytes = 0
        self._file: Any = None

    def write(self, document: Mapping[str, Any]) -> None:
        """Append one object."""
        if self._file is None:
            self._open()
        line = json.dumps(document, ensure_ascii=False).encode() + b"\n"
        self._file.write(line)
        self._num_bytes += len(line)
        if self._num_bytes >= self._shard_bytes:
            self._close()

    def __exit__(self, *error: object) -> None:
        self._close()

    def _open(self) -> None:
        import zstandard

        path = self._folder / f"part-{self._num_shards:05d}.jsonl.zst"
        self._file = zstandard.open(path, "wb", cctx=zstandard.ZstdCompressor(level=3))
        self._num_shards += 1

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._num_bytes = None, 0
