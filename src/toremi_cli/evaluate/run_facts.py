"""What a run cost and what it reached, and whether two runs can be compared at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from toremi_cli.errors import UsageError
from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.evaluate.results import read_scores
from toremi_cli.runs.checkpoints import count_parameters, step_of
from toremi_cli.runs.history import CURVE, History, read_history
from toremi_cli.runs.record import RUNTIME_FIELDS
from toremi_cli.runs.run import Run

SAME_ANYWAY = RUNTIME_FIELDS | {
    "policy", "reference_losses", "weights_from", "seed", "interval", "log_every", "eval_every", "eval_samples",
}  # fmt: skip
"""Settings in which two runs may differ and still be a fair comparison."""


@dataclass
class RunFacts:
    """What one run cost and what it reached."""

    run: Run
    history: History
    suite: str
    final: DocumentScores | None = None
    """Scores of its last measured checkpoint, None if it was not measured on the suite."""
    series: list[tuple[int, DocumentScores]] = field(default_factory=list)
    """Tokens and scores of every measured checkpoint, by step, up to that of `final`."""
    final_step: int = 0
    """The step of `final`."""
    conditions: str = ""
    """What `final` and `series` were measured under."""
    measured: dict[str, dict[int, DocumentScores]] = field(default_factory=dict)
    """All that was measured on the suite: by conditions, the newest last, and step."""

    suites: set[str] = field(default_factory=set)
    """All that it was measured on."""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.run.config.get("seed", 0))

    @property
    def step(self) -> int:
        """Steps done."""
        return max((int(c.steps[-1]) for c in self.history.metrics.values()), default=0)

    @property
    def final_tokens(self) -> int:
        """Tokens trained on when `final` was measured."""
        return self.series[-1][0] if self.series else 0

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return max((int(c.tokens[-1]) for c in self.history.metrics.values()), default=0)

    @property
    def flops(self) -> float:
        """6 x parameters x tokens (Kaplan et al. 2020): forward and backward, attention's share left out."""
        return 6.0 * count_parameters(self.run.checkpoints()) * self.tokens

    @property
    def seconds(self) -> float:
        """Time spent training, from the logged rates: what lies between two logs at the rate of the later one."""
        rate = self.history.metrics.get(("tokens_per_second", "all"))
        if rate is None:
            return math.nan
        new_tokens = np.diff(rate.tokens, prepend=0)
        return float((new_tokens / np.maximum(rate.values, 1e-9)).sum())

    @property
    def mfu(self) -> float:
        """Median over the logs of what it used of its device, from 0 to 1; nan where it wasn't measured."""
        found = self.history.metrics.get(("mfu", "all"))
        return math.nan if found is None else float(np.median(found.values))

    def tokens_at(self, step: int) -> int:
        """Tokens trained on after `step` steps: every step has as many."""
        return round(self.tokens * step / self.step) if self.step else 0

    def judge_by(self, conditions: str, last_step: int | None = None) -> None:
        """Take `series` and `final` from what was measured under these conditions, up to a step if one is given."""
        steps = [s for s in sorted(self.measured[conditions]) if last_step is None or s <= last_step]
        self.conditions, self.final_step = conditions, steps[-1]
        self.series = [(self.tokens_at(step), self.measured[conditions][step]) for step in steps]
        self.final = self.series[-1][1]


def read_facts(run: Run, suite: str, history: History | None = None, sources: Sequence[str] = ()) -> RunFacts:
    """Read what a run recorded and what was measured of it on a suite; it is judged by the newest of that.

    Args:
        run: the run.
        suite: what it was measured on.
        history: what it recorded, if that is read already.
        sources: of the held-out text; none: all.

    Raises:
        UsageError: neither the curves nor the suite know a source.
    """
    facts = RunFacts(run, history or read_history(run), suite)
    known = set(facts.history.domains(CURVE))
    for (name, checkpoint, conditions), scores in read_scores(run).items():
        facts.suites.add(name)
        step = step_of(checkpoint)
        if name == suite and step is not None:
            known |= set(scores.domains)
            facts.measured.setdefault(conditions, {})[step] = scores.only(sources) if sources else scores
    if unknown := sorted(set(sources) - known):
        raise UsageError(
            f"--sources {unknown[0]}: {run.name} was not measured on it, but on {', '.join(sorted(known))}"
        )
    if sources:
        facts.history = facts.history.only(sources)
    if facts.measured:
        facts.judge_by(list(facts.measured)[-1])
    return facts


def unfair(facts: Sequence[RunFacts]) -> list[str]:
    """What the runs differ in besides the policy and the seed, in words."""
    warnings = []
    first = facts[0]
    missing = [run.name for run in facts if run.final is None]
    if missing:
        names = " ".join(missing)
        warnings.append(f"not measured on '{first.suite}': {', '.join(missing)}; run `toremi eval {names}` first")
    for run in facts:
        if run.run.is_going:
            warnings.append(f"run {run.name} is not finished: step {run.step:,}")
        if run is first:
            continue
        changed = _differences(first.run.config, run.run.config)
        if first.run.record.get("data") != run.run.record.get("data"):
            changed.insert(0, "the annotated corpus")
        if changed:
            warnings.append(f"{first.name} and {run.name} differ in more than the policy: {', '.join(changed)}")
    return warnings


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    keys = sorted((set(a) | set(b)) - SAME_ANYWAY)
    return [f"{key} ({a.get(key)} and {b.get(key)})" for key in keys if a.get(key) != b.get(key)]
