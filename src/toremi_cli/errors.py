"""Errors that a user can act on: one line that says what was found, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class ToremiError(Exception):
    """Something the user can put right. Its text is one line, printed on stderr without a traceback."""

    exit_code = 1


class UsageError(ToremiError):
    """A flag or a combination of flags that cannot work."""

    exit_code = 2


class CorpusError(ToremiError):
    """An input document, file or folder that cannot be read as a corpus."""


class TableError(ToremiError):
    """A Parquet table that is missing, damaged, unfinished or of another schema."""


class TrainingError(ToremiError):
    """A training run that cannot start or go on (NaN loss, no data, no checkpoint)."""


class BusyError(ToremiError):
    """Something that another process is writing."""


class MissingExtraError(ToremiError):
    """An optional dependency that a chosen option needs."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}'; install it with: pip install 'toremi[{extra}]'")


def reason(problem: BaseException, most: int = 200) -> str:
    """What an error says, as part of one line: at most `most` characters, its kind where it says nothing."""
    return " ".join(str(problem).split())[:most] or type(problem).__name__


def some(names: Sequence[str], most: int) -> str:
    """Many names as part of one line: 'a, b and 3 more', of which `most` are named."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
