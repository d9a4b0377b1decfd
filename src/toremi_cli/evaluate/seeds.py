"""Numbers over the seeds of a policy: which runs belong together, and how sure a mean or a difference of means is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from toremi_cli.evaluate.bootstrap import MIN_DOCUMENTS, Interval
from toremi_cli.evaluate.run_facts import RunFacts

MIN_PAIRS = 2
"""Fewest shared seeds over which the spread of a difference is known."""


def pairs_of(runs: Sequence[RunFacts], others: Sequence[RunFacts]) -> list[tuple[RunFacts, RunFacts]]:
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
    from scipy.stats import t

    mean = float(np.mean(values))
    stderr = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    half = float(t.ppf(0.975, len(values) - 1)) * stderr
    return _interval(mean, half, stderr, num_documents)


def difference_of_means(
    values: Sequence[float], others: Sequence[float], num_documents: int = MIN_DOCUMENTS
) -> Interval:
    """Mean of the ones minus mean of the others, with Welch's t interval; without one where a side has one value."""
    from scipy.stats import t

    difference = float(np.mean(values) - np.mean(others))
    if min(len(values), len(others)) < 2:
        return _interval(difference, math.nan, math.nan, num_documents)
    parts = [(float(np.var(side, ddof=1)) / len(side), len(side) - 1) for side in (values, others)]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / n for part, n in parts) if variance else 1.0
    stderr = math.sqrt(variance)
    half = float(t.ppf(0.975, freedom)) * stderr
    return _interval(difference, half, stderr, num_documents)


def _interval(value: float, half: float, stderr: float, num_documents: int) -> Interval:
    return Interval(value, value - half, value + half, stderr, num_documents, num_documents >= MIN_DOCUMENTS)


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
