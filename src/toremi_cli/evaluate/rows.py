"""Rows of a task's files, wherever they are: a local file or folder, or any URL that `toremi embed` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toremi_cli.corpus.fields import PLAIN
from toremi_cli.corpus.formats import ROW_READERS
from toremi_cli.corpus.listing import CorpusFile, list_corpus
from toremi_cli.corpus.opening import open_bytes
from toremi_cli.corpus.rows import BadRow, Wanted
from toremi_cli.errors import CorpusError, UsageError

EVERYTHING = Wanted((), ())
"""No field is looked for, so a columnar file is read whole."""


def task_files(location: str, flag: str = "--task-data") -> list[CorpusFile]:
    """The readable files at a place that a flag names.

    Raises:
        UsageError: nothing readable there.
    """
    try:
        return list_corpus(location).files
    except CorpusError as problem:
        raise UsageError(f"{flag} {problem}") from None


def rows_of(location: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a file (of a text file its lines, as `text`), each with its place for errors.

    Raises:
        CorpusError: the file cannot be read, or a row is broken; names the row.
    """
    listing = list_corpus(location)
    for file in listing.files:
        with open_bytes(listing.filesystem, file) as stream:
            for number, row in ROW_READERS[file.format](stream, file.shown, EVERYTHING):
                if isinstance(row, BadRow):
                    raise CorpusError(f"{file.shown}:{number}: {row}" if number else f"{file.shown}: {row}")
                if file.format in PLAIN:
                    lines = enumerate(row["text"].splitlines(), start=1)
                    yield from ((f"{file.shown}:{line}", {"text": text}) for line, text in lines if text.strip())
                else:
                    yield f"{file.shown}:{number}", row
