"""`toremi compare`: what a policy bought against a baseline: held-out loss, compute saved, tasks, and how sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from toremi_cli.errors import UsageError
from toremi_cli.evaluate.bootstrap import (
    MIN_PER_SOURCE,
    DocumentScores,
    Interval,
    bits_per_byte,
    intervals,
    paired_differences,
)
from toremi_cli.evaluate.results import read_rows
from toremi_cli.evaluate.run_facts import RunFacts, read_facts, unfair
from toremi_cli.evaluate.savings import Saving, saving_of
from toremi_cli.evaluate.seeds import difference_of_means, over_seeds, pairs_of, what_pairs_leave_out
from toremi_cli.provenance import digest
from toremi_cli.runs.checkpoints import step_of
from toremi_cli.runs.record import RUNTIME_FIELDS
from toremi_cli.runs.run import Run
from toremi_cli.schemas import MACRO, MICRO

TASK_SUITES = {"tasks": "", "glue": "glue/"}
"""Suites of table `eval` that are tasks, and what their names get in front."""
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
    saving: Saving | None = None
    tasks: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Value and standard error by 'task metric'."""

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
                **{q: self.mean(q) for q in ("step", "tokens", "flops", "seconds")},
                "bits_per_byte": {d: asdict(i) for d, i in self.bits_per_byte.items()},
                "difference": {d: asdict(i) for d, i in self.difference.items()},
                "saving": asdict(self.saving) if self.saving else None,
                "tasks": {name: {"value": v, "stderr": e} for name, (v, e) in self.tasks.items()},
            }
        )


@dataclass
class Comparison:
    """All groups against the baseline, with what speaks against comparing them."""

    suite: str
    baseline: str
    groups: list[Group]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "suite": self.suite,
            "baseline": self.baseline,
            "warnings": self.warnings,
            "groups": [group.to_json() for group in self.groups],
        }


def compare_runs(runs: Sequence[Run], suite: str, baseline: str = "") -> Comparison:
    """Compare runs with a baseline: the one named, else the first with policy 'uniform', else the first.

    Raises:
        UsageError: the baseline is none of the runs.
    """
    facts = [read_facts(run, suite) for run in runs]
    groups = group_by_policy(facts)
    base = _find_baseline(groups, baseline)
    groups = [base, *(g for g in groups if g is not base)]
    warnings = unfair(facts)
    for group in groups:
        group.bits_per_byte = _values(group)
        group.tasks = _tasks(group)
        if group is not base:
            group.difference = _difference(group, base, warnings)
            group.saving = saving_of(group.runs, base.runs)
            sizes = len(group.runs), len(base.runs)
            note = what_pairs_leave_out(group.name, sizes[0], base.name, sizes[1], len(pairs_of(group.runs, base.runs)))
            if note and (group.difference or group.saving):
                warnings.append(note)
    warnings += _few_documents(groups, suite)
    return Comparison(suite, base.name, groups, list(dict.fromkeys(warnings)))


def _few_documents(groups: Sequence[Group], suite: str) -> list[str]:
    """Why the table has no interval, or no mark where an interval leaves out zero."""
    notes = []
    counts = [run.final.num_documents for group in groups for run in group.runs if run.final and len(group.runs) == 1]
    alone = sorted({source for count in counts for source, number in count.items() if number < MIN_PER_SOURCE})
    if alone:
        names = ", ".join(alone[:MAX_NAMED]) + (f" and {len(alone) - MAX_NAMED} more" if len(alone) > MAX_NAMED else "")
        notes.append(f"'{suite}' has one document only of {names}: no interval there, nor in macro and micro")
    averages = [(domain, g.difference[domain]) for g in groups for domain in (MACRO, MICRO) if g.difference]
    unmarked = {domain for domain, i in averages if not i.enough_documents and (i.low > 0 or i.high < 0)}
    if unmarked:
        names = " and ".join(sorted(unmarked))
        notes.append(f"'{suite}' has too few documents to be sure of the differences in {names}: they are not marked")
    return notes


def group_by_policy(facts: Sequence[RunFacts]) -> list[Group]:
    """Runs that differ in nothing but their seeds become one group."""
    groups: dict[str, list[RunFacts]] = {}
    for run in facts:
        config = run.run.config
        policy = {k: v for k, v in config.get("policy", {}).items() if k != "seed"}
        settings = {k: v for k, v in config.items() if k not in RUNTIME_FIELDS | {"policy", "seed"}}
        key = digest(policy, settings, run.run.record.get("data"))
        groups.setdefault(key if config else run.name, []).append(run)
    found = []
    for members in groups.values():
        policy_name = members[0].history.policy
        several = len({m.seed for m in members}) == len(members) > 1
        if several:
            found.append(Group(policy_name, policy_name, members))
        else:  # the same run twice under two names is no second seed
            found += [Group(m.name, policy_name, [m]) for m in members]
    names = [g.name for g in found]
    for group in found:
        if names.count(group.name) > 1:
            group.name = "+".join(m.name for m in group.runs)
    return found


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


def _difference(group: Group, base: Group, warnings: list[str]) -> dict[str, Interval]:
    """One run each: over documents. Several seeds: over the seeds, paired where both have the same."""
    paired = pairs_of(group.runs, base.runs)
    ours, theirs = ([a for a, _ in paired], [b for _, b in paired]) if paired else (group.runs, base.runs)
    finals = _finals([*ours, *theirs], warnings)
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


def _finals(runs: Sequence[RunFacts], warnings: list[str]) -> list[DocumentScores]:
    """The runs' last scores; none where a run has none, or has them of other documents."""
    finals = [run.final for run in runs if run.final is not None]
    if len(finals) < len(runs):
        return []
    for run, final in zip(runs, finals, strict=True):
        if not final.same_documents(finals[0]):
            names = f"{runs[0].name} and {run.name}"
            warnings.append(f"{names} were measured on different documents: no difference is given")
            return []
    return finals


def _tasks(group: Group) -> dict[str, tuple[float, float]]:
    """Value and standard error of each task that all of the group's runs were measured on.

    By likelihood it is named 'piqa accuracy', fine-tuned 'glue/cola mcc'.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for run in group.runs:
        for name, value in _last_tasks(run.run).items():
            found.setdefault(name, []).append(value)
    result = {}
    for name, values in found.items():
        if len(values) == len(group.runs) == 1:
            result[name] = values[0]
        elif len(values) == len(group.runs):
            whole = over_seeds([v for v, _ in values])
            result[name] = (whole.value, whole.stderr)
    return result


def _last_tasks(run: Run) -> dict[str, tuple[float, float]]:
    """A run's task results, each of the last checkpoint that it was measured on."""
    found: dict[str, tuple[int, float, float]] = {}
    for row in read_rows(run):
        step = step_of(row["checkpoint"])
        if row["suite"] not in TASK_SUITES or step is None:
            continue
        name = f"{TASK_SUITES[row['suite']]}{row['domain']} {row['metric']}"
        if name not in found or step >= found[name][0]:
            found[name] = (step, row["value"], row["stderr"] if row["stderr"] is not None else math.nan)
    return {name: (value, stderr) for name, (_, value, stderr) in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
