"""`toremi compare`: what a policy bought against a baseline: held-out loss, compute saved, tasks, and how sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from toremi_cli.errors import UsageError
from toremi_cli.evaluate.bootstrap import (
    Interval,
    intervals,
    macro_bits_per_byte,
    paired_differences,
    replicates,
    tokens_to_reach,
)
from toremi_cli.evaluate.results import read_rows
from toremi_cli.evaluate.run_facts import RunFacts, read_facts, unfair
from toremi_cli.provenance import digest
from toremi_cli.runs.checkpoints import step_of
from toremi_cli.runs.history import CURVE
from toremi_cli.runs.record import RUNTIME_FIELDS
from toremi_cli.runs.run import Run
from toremi_cli.schemas import MACRO

TASK_SUITES = {"tasks": "", "glue": "glue/"}
"""Suites of table `eval` that are tasks, and what their names get in front."""
MIN_SERIES = 3
"""Fewest measured checkpoints that make a learning curve."""


@dataclass(frozen=True)
class Saving:
    """Tokens at which a run reached the baseline's final value, and the share of the baseline's tokens saved."""

    tokens: float
    """nan if it never got there."""
    saved: float
    low: float = math.nan
    high: float = math.nan
    """95% interval; nan where only one learning curve without documents is known."""
    source: str = "in-run"
    """'in-run' (validation split, while training) or 'checkpoints' (the suite)."""


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
            group.saving = _saving(group, base)
    return Comparison(suite, base.name, groups, list(dict.fromkeys(warnings)))


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
    return {d: over_seeds([f[d].value for f in found]) for d in found[0] if all(d in f for f in found)}


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of several seeds with its t interval."""
    from scipy.stats import t

    mean = float(np.mean(values))
    stderr = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    half = float(t.ppf(0.975, len(values) - 1)) * stderr
    return Interval(mean, mean - half, mean + half, stderr)


def _difference(group: Group, base: Group, warnings: list[str]) -> dict[str, Interval]:
    """One seed each: over documents. Several seeds: over the seeds, paired where both have the same."""
    ours, theirs = {r.seed: r for r in group.runs}, {r.seed: r for r in base.runs}
    shared = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[s], theirs[s]) for s in shared] or [(group.runs[0], base.runs[0])]
    found = []
    for a, b in pairs:
        if a.final is None or b.final is None:
            return {}
        if not a.final.same_documents(b.final):
            warnings.append(f"{a.name} and {b.name} were measured on different documents: no difference is given")
            return {}
        found.append(paired_differences(a.final, b.final))
    if len(found) == 1:
        return found[0]
    return {domain: over_seeds([f[domain].value for f in found]) for domain in found[0]}


def _saving(group: Group, base: Group) -> Saving | None:
    found = [s for run in group.runs if (s := _saving_of(run, _partner(run, base))) is not None]
    if len(found) <= 1:
        return found[0] if found else None
    shares = [s.saved for s in found]
    if any(math.isnan(s) for s in shares):
        return Saving(math.nan, math.nan, source=found[0].source)
    whole = over_seeds(shares)
    return Saving(float(np.mean([s.tokens for s in found])), whole.value, whole.low, whole.high, found[0].source)


def _partner(run: RunFacts, base: Group) -> RunFacts:
    return next((b for b in base.runs if b.seed == run.seed), base.runs[0])


def _saving_of(run: RunFacts, base: RunFacts) -> Saving | None:
    if len(run.series) >= MIN_SERIES and base.final is not None and run.series[0][1].same_documents(base.final):
        sampled = np.stack([replicates(scores)[MACRO] for _, scores in run.series])
        values = np.array([[macro_bits_per_byte(scores)] for _, scores in run.series])
        tokens = [t for t, _ in run.series]
        own = tokens_to_reach(tokens, values, np.array([macro_bits_per_byte(base.final)]))[0]
        spread = 1 - tokens_to_reach(tokens, sampled, replicates(base.final)[MACRO]) / base.tokens
        # A resampled curve that never gets there has saved less than any that does.
        spread = np.where(np.isnan(spread), -np.inf, spread)
        low, high = (float(np.quantile(spread, q, method="nearest")) for q in (0.025, 0.975))
        return Saving(float(own), 1 - float(own) / base.tokens, low, high, "checkpoints")
    curve, target = (r.history.metrics.get((CURVE, MACRO)) for r in (run, base))
    if curve is None or target is None:
        return None
    own = tokens_to_reach(curve.tokens, curve.values[:, None], target.values[-1:])[0]
    return Saving(float(own), 1 - float(own) / float(target.tokens[-1]))


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
