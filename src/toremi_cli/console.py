"""The two streams a command speaks on: results on stdout, everything else on stderr.

On a terminal, stderr carries rich progress bars; in a pipe or a log file it carries plain lines, at most one every
`LOG_EVERY_SECONDS`. `--quiet` silences both, except errors and warnings about what a table holds.
"""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

LOG_EVERY_SECONDS = 10.0


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command (`| head` is no failure); rich would end the process with 1."""
        raise


# Sources, topics and paths are the user's: none of their brackets and colons is markup.
out = _Console(highlight=False, markup=False, emoji=False)
err = _Console(stderr=True, highlight=False, markup=False, emoji=False)
_quiet = False


def survive_any_encoding() -> None:
    """Let stdout and stderr show what their encoding lacks (Chinese in ASCII) as escapes, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def set_quiet(quiet: bool) -> None:
    """Silence progress and notes on stderr; errors and results still print."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether progress and notes are silenced."""
    return _quiet


def note(message: str) -> None:
    """Print one line of information on stderr."""
    if not _quiet:
        _print_line(err, Text(message))


def warn(message: str, even_quiet: bool = False) -> None:
    """Print one warning line on stderr; what is wrong with a table that was written is said `even_quiet`."""
    if even_quiet or not _quiet:
        _print_line(err, Text.assemble(("warning: ", "yellow"), message))


def error(message: str) -> None:
    """Print one error line on stderr, also when quiet."""
    _print_line(err, Text.assemble(("error: ", "bold red"), message))


def say(message: str) -> None:
    """Print one line of a result on stdout."""
    _print_line(out, Text(message))


def _print_line(console: Console, line: Text) -> None:
    """Print a line, folded between words on a terminal and nowhere else: who reads a pipe expects one line."""
    console.print(line, soft_wrap=not console.is_terminal)


def print_json(value: Any) -> None:
    """Print a result for machines on stdout, as one JSON document."""
    has_all = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    sys.stdout.write(json.dumps(value, ensure_ascii=not has_all, indent=2) + "\n")


def table(*headings: str, numbers: Sequence[str] = (), **style: Any) -> Table:
    """A table without lines; `numbers` are set to the right, and come last unless they are among the headings."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), **style)
    for heading in dict.fromkeys((*headings, *numbers)):
        is_number = heading in numbers
        found.add_column(Text(heading), justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return found


class ProgressReporter(Protocol):
    """What a stage may tell of its progress."""

    def advance(self, count: float = 1) -> None:
        """Add `count` units of work done."""

    def describe(self, text: str) -> None:
        """Replace the text before the bar."""


class _Silent:
    def advance(self, count: float = 1) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


class _Lines:
    """Plain log lines for pipes and log files."""

    def __init__(self, description: str, total: float | None, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0.0
        self.start = self.last = time.monotonic()

    def advance(self, count: float = 1) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last >= LOG_EVERY_SECONDS:
            self.last = now
            note(self.line(now - self.start))

    def describe(self, text: str) -> None:
        self.description = text

    def line(self, elapsed: float) -> str:
        rate = self.done / elapsed if elapsed > 0 else 0.0
        parts = [f"{self.description}: {self.done:,.0f}"]
        if self.total:
            parts[0] += f" of {self.total:,.0f}"
        parts[0] += f" {self.unit}"
        parts.append(f"{_rate(rate)} {self.unit}/s")
        if self.total and rate > 0:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return ", ".join(parts)


class _Bar:
    def __init__(self, progress: Progress, task: Any) -> None:
        self.progress, self.task = progress, task

    def advance(self, count: float = 1) -> None:
        self.progress.advance(self.task, count)

    def describe(self, text: str) -> None:
        self.progress.update(self.task, description=text)


class _RateColumn(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time  # rich's own speed at the end is that of the last moments
        speed = task.completed / elapsed if elapsed else task.speed
        return Text("" if speed is None else f"{_rate(speed)} {task.fields['unit']}/s", style="cyan")


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """75 as '1m15s'; empty where unknown."""
    if not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


@contextmanager
def progress(description: str, total: float | None = None, unit: str = "samples") -> Iterator[ProgressReporter]:
    """Report a long piece of work with its rate and the time left.

    `total` is in `unit`s; None when it isn't known beforehand.
    """
    if _quiet:
        yield _Silent()
    elif not err.is_terminal:
        lines = _Lines(description, total, unit)
        yield lines
        elapsed = time.monotonic() - lines.start
        note(f"{lines.description}: {lines.done:,.0f} {unit} in {duration(elapsed)}")
    else:
        with Progress(*bar_columns(total), console=err) as bars:
            task = bars.add_task(description, total=total, unit=unit)
            yield _Bar(bars, task)
            if total is None:
                bars.update(task, total=bars.tasks[0].completed)


def bar_columns(total: float | None) -> tuple[ProgressColumn, ...]:
    """What a progress bar shows; its description may name what the user has named, so that it is no markup."""
    return (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%" if total else "{task.completed:,.0f}"),
        _RateColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True) if total else TimeElapsedColumn(),
    )
