"""Rows of a task's files, wherever they are: a local file or folder, or any URL that `toremi embed` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from toremi_cli.corpus.fields import PLAIN
from toremi_cli.corpus.formats import ROW_READERS
from toremi_cli.corpus.listing import CorpusFile, list_corpus
from toremi_cli.corpus.opening import open_bytes
from toremi_cli.corpus.rows import BadRow, Wanted
from toremi_cli.errors import CorpusError, UsageError
from toremi_cli.evaluate.tasks.items import FieldError

Made = TypeVar("Made")
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


def read_examples(locations: Sequence[str], make: Callable[[Any], Made], limit: int | None, what: str) -> list[Made]:
    """What `make` makes of the rows of some files, of the first `limit` (None: all).

    Raises:
        CorpusError: a file or a row is broken, with its line, or no rows; says `what` they should be.
    """
    found: list[Made] = []
    for location in locations:
        for place, row in rows_of(location):
            if limit and len(found) >= limit:
                return found
            try:
                found.append(make(row))
            except FieldError as problem:
                raise CorpusError(f"{place}: {problem}; not a {what}") from None
    if not found:
        raise CorpusError(f"{locations[0]}: no rows; expected each to be a {what}")
    return found
