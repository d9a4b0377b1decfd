"""A local file that was only touched, copied or checked out anew is the same file: its contents say so.

A finished table keeps the hash of each file that it was made of. Where a file has another time than then, but the same
name and size, it is hashed again; if its contents are those of before, it counts as of that time. (An object store's
tags follow the contents by themselves.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from toremi_cli.corpus.listing import CorpusFile, Listing
from toremi_cli.files import find_json, write_json
from toremi_cli.remote import is_local

RECORD = "_files.json"
"""Beside a finished table: of each file its size, its time, and the hash of its contents."""
MOST_FILES = 100_000
"""Of a corpus of more files nothing is kept; their times decide."""


def content_hash(filesystem: Any, file: CorpusFile) -> str:
    """Hash of a file's bytes, as stored; empty where it cannot be read, or the file system is not the local one."""
    if is_local(filesystem):
        with suppress(OSError), Path(file.path).open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return ""


def remember_files(folder: Path, files: list[CorpusFile], hashes: Iterable[str]) -> None:
    """Write down what a table in `folder` was made of."""
    if len(files) > MOST_FILES:
        (folder / RECORD).unlink(missing_ok=True)
        return
    known = zip(files, hashes, strict=True)
    write_json(folder / RECORD, {file.name: [file.size, file.stamp, found] for file, found in known if found})


def as_before(listing: Listing, folder: Path) -> Listing:
    """The listing, with the times of before for those files whose contents are those of before."""
    before = find_json(folder / RECORD) or {}
    return replace(listing, files=[_as_before(listing, file, before.get(file.name)) for file in listing.files])


def _as_before(listing: Listing, file: CorpusFile, before: list[Any] | None) -> CorpusFile:
    if before is None or file.size != before[0] or file.stamp == before[1]:
        return file
    same = content_hash(listing.filesystem, file) == before[2]
    return replace(file, stamp=before[1]) if same else file
