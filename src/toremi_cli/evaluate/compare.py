"""`toremi compare`: what a policy bought against a baseline: held-out loss, compute saved, tasks, and how sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from toremi_cli.errors import UsageError, some
from toremi_cli.evaluate.bootstrap import MIN_PER_SOURCE, DocumentScores, bits_per_byte
from toremi_cli.evaluate.footing import put_on_one_footing, why_unlike
from toremi_cli.evaluate.intervals import Interval, intervals, paired_differences, surely_different
from toremi_cli.evaluate.run_facts import RunFacts, read_facts, unfair
from toremi_cli.evaluate.savings import Saving, saving_of
from toremi_cli.evaluate.seeds import difference_of_means, group_by_seed, over_seeds, seed_pairs, what_pairs_leave_out
from toremi_cli.evaluate.task_values import Value, task_values
from toremi_cli.runs.run import Run, policy_of
from toremi_cli.schemas import MACRO, MICRO, TASKS, TEST

MAX_NAMED = 5
"""Most names listed in a note."""


@dataclass
class Group:
    """One run, or the runs of one policy under several seeds (numbers are then means over seeds)."""

    name: str
    policy: str
    runs: list[RunFacts]
    bits_per_byte: dict[str, Interval] = field(default_factory=dict)
    difference: dict[str, Interval] = field(default_factory=dict)
    """To the baseline on the same documents: below zero is better."""
    sure: set[str] = field(default_factory=set)
    """Domains whose difference is told apart from nothing, the sources corrected for their number."""
    saving: Saving | None = None
    tasks: dict[str, Value] = field(default_factory=dict)
    """Value and standard error by 'task metric'."""
    task_difference: dict[str, Interval] = field(default_factory=dict)
    """To the baseline, of the right answers' bits per byte on the same items: by task, and their mean ('macro')."""
    sure_tasks: set[str] = field(default_factory=set)
    """Of these, those that are told apart from nothing."""

    @property
    def conditions(self) -> str:
        """What its held-out text was measured under; of unlike ones all."""
        return "; ".join(dict.fromkeys(run.conditions for run in self.runs if run.final is not None))

    def mean(self, quantity: str) -> float:
        """Mean over seeds of a number of `RunFacts`."""
        return float(np.mean([getattr(run, quantity) for run in self.runs]))

    def to_json(self) -> dict[str, Any]:
        """As plain values; None for what is unknown."""
        return _plain(
            {
                "name": self.name,
                "policy": self.policy,
                "runs": [run.name for run in self.runs],
                "seeds": [run.seed for run in self.runs],
                **{q: self.mean(q) for q in ("step", "tokens", "flops", "seconds", "mfu")},
                "measured_step": self.mean("final_step"),
                "measured_under": self.conditions,
                "bits_per_byte": {d: asdict(i) for d, i in self.bits_per_byte.items()},
                "difference": {d: {**asdict(i), "sure": d in self.sure} for d, i in self.difference.items()},
                "saving": asdict(self.saving) if self.saving else None,
                "tasks": {name: {"value": v, "stderr": e} for name, (v, e) in self.tasks.items()},
                "task_difference": {
                    d: {**asdict(i), "sure": d in self.sure_tasks} for d, i in self.task_difference.items()
                },
            }
        )


@dataclass
class Comparison:
    """All groups against the baseline, with what speaks against comparing them."""

    suite: str
    baseline: str
    groups: list[Group]
    warnings: list[str]

    @property
    def alike(self) -> bool:
        """Whether the held-out text of all groups was measured alike, so that their values can be ranked."""
        runs = [run for group in self.groups for run in group.runs if run.final is not None]
        return all(why_unlike(run, runs[0]) is None for run in runs)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "suite": self.suite,
            "baseline": self.baseline,
            "warnings": self.warnings,
            "groups": [group.to_json() for group in self.groups],
        }


def compare_runs(runs: Sequence[Run], suite: str, baseline: str = "", sources: Sequence[str] = ()) -> Comparison:
    """Compare runs with a baseline: the one named, else the first with policy 'uniform', else the first.

    Args:
        runs: at least one.
        suite: text that they were measured on.
        baseline: name of a run or of a policy.
        sources: of the text; none: all.

    Raises:
        UsageError: the baseline is none of the runs, a run knows none of a source, or no run was measured on the text.
    """
    facts = [read_facts(run, suite, sources=sources) for run in runs]
    known = sorted(set().union(*(run.suites for run in facts)) - {TASKS})
    if known and suite not in {*known, TEST}:
        raise UsageError(f"--suite {suite}: no run was measured on it, but on {', '.join(known)}")
    groups = group_by_policy(facts)
    base = _find_baseline(groups, baseline)
    groups = [base, *(g for g in groups if g is not base)]
    warnings = unfair(facts) + put_on_one_footing(facts)
    values, notes = task_values(facts)
    tasks = {run.run.folder: of_run for run, of_run in zip(facts, values, strict=True)}
    warnings += notes
    for group in groups:
        group.bits_per_byte = _values(group)
        group.tasks = _tasks([tasks[run.run.folder] for run in group.runs])
        if group is not base:
            group.difference = _difference(group.runs, base.runs, warnings)
            group.sure = surely_different(group.difference)
            group.saving = saving_of(group.runs, base.runs)
            sizes = len(group.runs), len(base.runs)
            note = what_pairs_leave_out(
                group.name, sizes[0], base.name, sizes[1], len(seed_pairs(group.runs, base.runs))
            )
            if note and (group.difference or group.saving):
                warnings.append(note)
    _compare_right_answers(groups, warnings)
    warnings += _few_documents(groups, suite)
    return Comparison(suite, base.name, groups, list(dict.fromkeys(warnings)))


def _compare_right_answers(groups: Sequence[Group], warnings: list[str]) -> None:
    """Fill in what the right answers of tasks cost against the baseline, groups[0], on the tasks that both have."""
    facts = {run.run: read_facts(run.run, TASKS, run.history) for group in groups for run in group.runs}
    notes = put_on_one_footing(list(facts.values()))
    base = [facts[run.run] for run in groups[0].runs]
    for group in groups[1:]:
        own = [facts[run.run] for run in group.runs]
        finals = [run.final for run in (*own, *base) if run.final is not None]
        if len(finals) == len(own) + len(base):
            shared = sorted(set.intersection(*(set(final.domains) for final in finals)))
            group.task_difference = _difference(own, base, notes, shared) if shared else {}
            group.sure_tasks = surely_different(group.task_difference)
    warnings += [f"tasks: {note}" for note in notes]


def _few_documents(groups: Sequence[Group], suite: str) -> list[str]:
    """Why the table has no interval, or no mark where an interval leaves out zero."""
    notes = []
    counts = [run.final.num_documents for group in groups for run in group.runs if run.final and len(group.runs) == 1]
    alone = sorted({source for count in counts for source, number in count.items() if number < MIN_PER_SOURCE})
    if alone:
        names = some(alone, MAX_NAMED)
        notes.append(f"'{suite}' has one document only of {names}: no interval there, nor in macro and micro")
    averages = [(domain, g.difference[domain]) for g in groups for domain in (MACRO, MICRO) if g.difference]
    unmarked = {domain for domain, i in averages if not i.enough_documents and (i.low > 0 or i.high < 0)}
    if unmarked:
        names = " and ".join(sorted(unmarked))
        notes.append(f"'{suite}' has too few documents to be sure of the differences in {names}: they are not marked")
    return notes


def group_by_policy(facts: Sequence[RunFacts]) -> list[Group]:
    """Runs that differ in nothing but their seeds become one group."""
    of_run = {fact.run: fact for fact in facts}
    return [
        Group(name, policy_of(runs[0]), [of_run[run] for run in runs]) for name, runs in group_by_seed(list(of_run))
    ]


def _find_baseline(groups: Sequence[Group], wanted: str) -> Group:
    if wanted:
        for group in groups:
            if wanted == group.name or wanted in [run.name for run in group.runs]:
                return group
        raise UsageError(f"--baseline {wanted}: not among the runs ({', '.join(g.name for g in groups)})")
    return next((g for g in groups if g.policy == "uniform"), groups[0])


def _values(group: Group) -> dict[str, Interval]:
    measured = [run.final for run in group.runs if run.final is not None]
    if len(measured) < len(group.runs) or not measured:
        return {}
    found = [intervals(scores) for scores in measured]
    if len(found) == 1:
        return found[0]
    of_all = {d: i.num_documents for d, i in found[0].items() if all(d in f for f in found)}
    return {d: over_seeds([f[d].value for f in found], number) for d, number in of_all.items()}


def _difference(
    runs: Sequence[RunFacts], baseline: Sequence[RunFacts], warnings: list[str], domains: Sequence[str] | None = None
) -> dict[str, Interval]:
    """One run each: over documents. Several seeds: over the seeds, paired where both have the same.

    If `domains` are given, of these sources alone.
    """
    paired = seed_pairs(runs, baseline)
    ours, theirs = ([a for a, _ in paired], [b for _, b in paired]) if paired else (runs, baseline)
    finals = _finals([*ours, *theirs], warnings, domains)
    if not finals:
        return {}
    if len(paired) == 1:
        return paired_differences(*finals)
    values = [bits_per_byte(final) for final in finals]
    own, other, counts = values[: len(ours)], values[len(ours) :], finals[0].num_documents
    counts |= dict.fromkeys((MACRO, MICRO), len(finals[0].ids))
    if paired:
        return {d: over_seeds([a[d] - b[d] for a, b in zip(own, other, strict=True)], n) for d, n in counts.items()}
    return {d: difference_of_means([v[d] for v in own], [v[d] for v in other], n) for d, n in counts.items()}


def _finals(
    runs: Sequence[RunFacts], warnings: list[str], domains: Sequence[str] | None = None
) -> list[DocumentScores]:
    """The runs' last scores; none where a run has none, or has them of other documents or under other conditions."""
    finals = [run.final for run in runs if run.final is not None]
    if domains is not None:
        finals = [final.only(domains) for final in finals]
    if len(finals) < len(runs):
        return []
    for run, final in zip(runs, finals, strict=True):
        unlike = why_unlike(run, runs[-1])
        if unlike is None and not final.same_documents(finals[-1]):
            unlike = f"{runs[-1].name} and {run.name} were measured on different documents: no difference is given"
        if unlike:
            warnings.append(unlike)
            return []
    return finals


def _tasks(found: Sequence[dict[str, Value]]) -> dict[str, Value]:
    """Each task that all of a group's runs were measured on: of one run its result, of several their mean."""
    result = {}
    for name in dict.fromkeys(name for values in found for name in values):
        own = [values[name] for values in found if name in values]
        if len(own) == len(found) == 1:
            result[name] = own[0]
        elif len(own) == len(found):
            whole = over_seeds([value for value, _ in own])
            result[name] = (whole.value, whole.stderr)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
