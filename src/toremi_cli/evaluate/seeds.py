"""Numbers over the seeds of a policy: which runs belong together, and how sure a mean or a difference of means is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from toremi_cli.evaluate.intervals import LEVEL, MIN_DOCUMENTS, Interval
from toremi_cli.evaluate.run_facts import RunFacts
from toremi_cli.provenance import digest
from toremi_cli.runs.record import RUNTIME_FIELDS
from toremi_cli.runs.run import Run, policy_of, seed_of

MIN_PAIRS = 2
"""Fewest shared seeds over which the spread of a difference is known."""


def but_for_the_seed(run: Run) -> str:
    """The same for runs that differ in nothing but their seeds; of a run without settings, its name."""
    config = run.config
    policy = {k: v for k, v in config.get("policy", {}).items() if k != "seed"}
    settings = {k: v for k, v in config.items() if k not in RUNTIME_FIELDS | {"policy", "seed"}}
    return digest(policy, settings, run.record.get("data")) if config else run.name


def group_by_seed(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Runs that differ in nothing but their seeds together, each group with its name: the policy's, else the run's.

    The same run twice under two names is no second seed: then each stands alone, as does a run that still trains.
    """
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(run.name if run.is_going else but_for_the_seed(run), []).append(run)
    found: list[tuple[str, list[Run]]] = []
    for members in alike.values():
        if len({seed_of(run) for run in members}) == len(members) > 1:
            found.append((policy_of(members[0]), members))
        else:
            found += [(run.name, [run]) for run in members]
    names = [name for name, _ in found]
    return [(name if names.count(name) == 1 else "+".join(r.name for r in own), own) for name, own in found]


def seed_pairs(runs: Sequence[RunFacts], others: Sequence[RunFacts]) -> list[tuple[RunFacts, RunFacts]]:
    """Runs to compare one by one: those of the same seed, or the only two there are, whatever their seeds.

    None where there are more runs but fewer than two seeds are shared: then only the means can be compared.
    """
    if len(runs) == len(others) == 1:
        return [(runs[0], others[0])]
    of_seed = {other.seed: other for other in others}
    found = [(run, of_seed[run.seed]) for run in sorted(runs, key=lambda run: run.seed) if run.seed in of_seed]
    return found if len(found) >= MIN_PAIRS else []


def over_seeds(values: Sequence[float], num_documents: int = MIN_DOCUMENTS) -> Interval:
    """Mean of several seeds with its t interval; each value was measured on `num_documents`."""
    from scipy.stats import ttest_1samp

    return _interval(float(np.mean(values)), ttest_1samp, (values, 0.0), num_documents)


def difference_of_means(
    values: Sequence[float], others: Sequence[float], num_documents: int = MIN_DOCUMENTS
) -> Interval:
    """Mean of the ones minus mean of the others, with Welch's t interval; without one where a side has one value."""
    from scipy.stats import ttest_ind

    difference = float(np.mean(values) - np.mean(others))
    if min(len(values), len(others)) < MIN_PAIRS:
        return Interval(difference, math.nan, math.nan, math.nan, num_documents, num_documents >= MIN_DOCUMENTS)
    return _interval(difference, partial(ttest_ind, equal_var=False), (values, others), num_documents)


def _interval(value: float, test: Callable[..., Any], samples: tuple[Any, ...], num_documents: int) -> Interval:
    """The interval of one of scipy's t tests; of values without any spread, the value alone."""
    from scipy.stats import t

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # values without spread: what follows is right for them
        found = test(*samples)
        interval = found.confidence_interval(LEVEL)
    stderr = float(interval.high - interval.low) / 2 / float(t.ppf((1 + LEVEL) / 2, found.df))
    p_value = 1.0 if math.isnan(found.pvalue) else float(found.pvalue)
    enough = num_documents >= MIN_DOCUMENTS
    return Interval(value, float(interval.low), float(interval.high), stderr, num_documents, enough, p_value)


def what_pairs_leave_out(name: str, num_runs: int, other: str, num_others: int, num_pairs: int) -> str | None:
    """What a reader must know of the difference of two groups of runs; None where all runs are paired."""
    if num_pairs == num_runs == num_others:
        return None
    if num_pairs:
        return f"{name} and {other} share {num_pairs} seeds: what is said of their difference is of these alone"
    if min(num_runs, num_others) > 1:
        return f"{name} and {other} share fewer than two seeds: their means are compared, unpaired (Welch)"
    counts = f"{name} has {_runs(num_runs)}, {other} {_runs(num_others)}"
    return f"{counts}: their means are compared, without an interval; train both with the same seeds for one"


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"
