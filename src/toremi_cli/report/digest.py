"""What a run did and what that bought, in a few lines: which topics it drew less and more, and the held-out loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from toremi_cli.evaluate.compare import Comparison, Group, compare_runs
from toremi_cli.layout import Workdir
from toremi_cli.report.comparison_table import percent
from toremi_cli.report.draws import Draws, Shift, draws_of, sample_lengths, shifts, with_texts
from toremi_cli.report.seed_groups import SeedGroup, seed_groups
from toremi_cli.report.terminal import shorten
from toremi_cli.runs.history import History
from toremi_cli.runs.run import Run
from toremi_cli.schemas import MACRO, MICRO

MOST_LESS, MOST_MORE = 3, 2
"""Topics in the lines."""
SHOWN = 3
"""Topics either way whose text the page shows."""
NAME_WIDTH, TEXT_WIDTH = 24, 30


@dataclass(frozen=True)
class Digest:
    """A run, or the seeds of one policy, beside the baseline."""

    group: Group
    baseline: Group
    draws: Draws | None
    baseline_draws: Draws | None
    moved: list[Shift]
    """All topics whose shares differ noticeably, those that lost most first."""
    less: list[Shift]
    """Of these, those that lost most, with text."""
    more: list[Shift]
    """Those that gained most, with text."""

    @property
    def num_seeds(self) -> int:
        """Of the smaller side."""
        return min(len(self.group.runs), len(self.baseline.runs))


@dataclass(frozen=True)
class Report:
    """Runs, and all that is told of them."""

    histories: list[History]
    workdir: Workdir
    groups: list[SeedGroup]
    """The runs by policy."""
    comparison: Comparison
    digests: list[Digest]
    """One for each run or policy beside the baseline."""


def read_report(runs: Sequence[Run], workdir: Workdir, suite: str = "test", sources: Sequence[str] = ()) -> Report:
    """Read what runs recorded and compare them.

    Args:
        runs: at least one.
        workdir: where the corpus's topics stand; what needs them is left out where they are missing.
        suite: text on which they are compared.
        sources: of that text; none: all.

    Raises:
        TableError: a run has recorded nothing, or a table is damaged.
        UsageError: a source that was not measured.
    """
    comparison = compare_runs(runs, suite, sources=sources)
    of_run = {facts.run: facts.history for group in comparison.groups for facts in group.runs}
    histories = [of_run[run] for run in runs]
    groups = seed_groups(histories)
    return Report(histories, workdir, groups, comparison, _digests(comparison, groups, workdir))


def _digests(comparison: Comparison, groups: Sequence[SeedGroup], workdir: Workdir) -> list[Digest]:
    lengths = sample_lengths(workdir.topics)
    drawn = {group.name: draws_of(group, lengths) for group in groups}
    baseline, *others = comparison.groups
    found = []
    for group in others:
        moved = shifts(drawn.get(baseline.name), drawn.get(group.name))
        less = [shift for shift in moved if shift.after < shift.before][:SHOWN]
        more = [shift for shift in reversed(moved) if shift.after > shift.before][:SHOWN]
        mode = str(group.runs[0].run.config.get("topics", ""))
        texts = with_texts([*less, *more], workdir, mode)
        draws = drawn.get(group.name), drawn.get(baseline.name)
        found.append(Digest(group, baseline, *draws, moved, texts[: len(less)], texts[len(less) :]))
    return found


def lines(digest: Digest, suite: str) -> list[str]:
    """The digest for a terminal of 80 columns."""
    name, base = digest.group.name, digest.baseline.name
    if digest.less or digest.more:
        found = [f"{name} against {base}: share of the tokens drawn, and a sample's first words"]
    else:
        found = [f"{name} against {base}: no topic's share of the draws differs by half a percent"]
    for word, chosen in (("less", digest.less[:MOST_LESS]), ("more", digest.more[:MOST_MORE])):
        found += [_shift_line(word if number == 0 else "", shift) for number, shift in enumerate(chosen)]
    return [*found, _loss_line(digest, suite), f"{saving(digest)}; {seeds(digest)}"]


def _shift_line(word: str, shift: Shift) -> str:
    shares = f"{percent(shift.before):>5} → {percent(shift.after):>5}"
    text = " ".join(shift.text[:200].split())[:TEXT_WIDTH]
    return f"{word:<5}{shares}  {shorten(shift.topic, NAME_WIDTH):<{NAME_WIDTH}}  {text}".rstrip()


def _loss_line(digest: Digest, suite: str) -> str:
    values = [group.bits_per_byte.get(MACRO) for group in (digest.baseline, digest.group)]
    if values[0] is None or values[1] is None:
        return f"held-out loss: not measured on '{suite}'; run `toremi eval` first"
    number = sum(domain not in (MACRO, MICRO) for domain in digest.group.bits_per_byte)
    of = f"{number} source" + "s" * (number > 1)
    base, own = digest.baseline.name, digest.group.name
    both = f"{base} {values[0].value:.3f}, {own} {values[1].value:.3f}"
    return f"held-out bits per byte, {of}: {both}: {verdict(digest)}"


def verdict(digest: Digest) -> str:
    """The difference on the same documents in words."""
    difference = digest.group.difference.get(MACRO)
    if difference is None:
        return "not comparable"
    return f"{abs(difference.value):.3f} {'better' if difference.value < 0 else 'worse'}"


def saving(digest: Digest) -> str:
    """The tokens saved in words."""
    found, base = digest.group.saving, digest.baseline.name
    if found is None:
        return "tokens saved: not known"
    if math.isnan(found.saved):
        return f"no tokens saved: it never came down to {base}'s final loss"
    if found.saved <= 0:
        return f"no tokens saved: it came to {base}'s final loss {percent(-found.saved)} later"
    return f"tokens saved to {base}'s final loss: {percent(found.saved)}"


def seeds(digest: Digest) -> str:
    """How many seeds that is."""
    return f"over {digest.num_seeds} seeds" if digest.num_seeds > 1 else "one seed: chance is in this"
