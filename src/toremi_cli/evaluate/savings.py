"""Compute saved: how many tokens runs need to come down to a baseline's final held-out loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from toremi_cli.evaluate.bootstrap import DocumentScores, macro_bits_per_byte, macro_replicates, tokens_to_reach
from toremi_cli.evaluate.intervals import LEVEL, paired_differences
from toremi_cli.evaluate.run_facts import RunFacts
from toremi_cli.evaluate.seeds import over_seeds, seed_pairs
from toremi_cli.runs.history import CURVE
from toremi_cli.schemas import MACRO

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
    """95% interval; nan where there is one curve only without documents, with one document of a source, or of means."""
    source: str = "in-run"
    """'in-run' (validation split, while training) or 'checkpoints' (the suite)."""
    num_pairs: int = 1
    num_reached: int = 1
    """Of the pairs of runs of one seed, those that got there; where some did not, the rest is of their mean curve."""


@dataclass(frozen=True)
class _Race:
    """Learning curves of runs, each as tokens and values of shape (num_points,), and what they are to reach."""

    curves: list[tuple[np.ndarray, np.ndarray]]
    targets: list[float]
    """The baseline runs' final values."""
    tokens: list[float]
    """What these runs had been trained on then."""
    source: str


def saving_of(runs: Sequence[RunFacts], baseline: Sequence[RunFacts]) -> Saving | None:
    """Mean over the pairs of `seed_pairs`, if all got there; else the runs' mean curve against the mean final value.

    A curve of one seed is never held against the final value of another unless there is one run on either side.
    """
    paired = seed_pairs(runs, baseline)
    if not paired:
        return _of_means(runs, baseline)
    found = [s for run, other in paired if (s := _of_pair(run, other)) is not None]
    if len(found) <= 1:
        return found[0] if found else None
    shares = [s.saved for s in found]
    num_reached = sum(not math.isnan(share) for share in shares)
    if num_reached < len(found):
        of_means = _of_means([run for run, _ in paired], [other for _, other in paired])
        return replace(of_means or found[0], num_pairs=len(found), num_reached=num_reached)
    whole = over_seeds(shares)
    tokens = float(np.mean([s.tokens for s in found]))
    return Saving(tokens, whole.value, whole.low, whole.high, found[0].source, len(found), num_reached)


def _of_means(runs: Sequence[RunFacts], baseline: Sequence[RunFacts]) -> Saving | None:
    found = _by_suite(runs, baseline) or _in_run(runs, baseline)
    return _reached(found) if found else None


def _of_pair(run: RunFacts, base: RunFacts) -> Saving | None:
    """By the suite with an interval over its documents, else by the validation curves."""
    found = _of_means([run], [base])
    if found is None or found.source != "checkpoints" or run.final is None or base.final is None:
        return found
    if not base.final.vary:
        return found
    sampled = np.stack([macro_replicates(scores) for _, scores in run.series])
    tokens = [t for t, _ in run.series]
    spread = 1 - tokens_to_reach(tokens, sampled, macro_replicates(base.final)) / base.final_tokens
    # A resampled curve that never gets there has saved less than any that does.
    spread = np.where(np.isnan(spread), -np.inf, spread)
    outside = _tail(run.final, base.final)
    low, high = (float(np.quantile(spread, q, method="nearest")) for q in (outside, 1 - outside))
    return Saving(found.tokens, found.saved, low, high, found.source)


def _tail(scores: DocumentScores, baseline: DocumentScores) -> float:
    """Share of the resamples to leave out at either end: less than 2.5% where there are few documents.

    Percentiles end 1.96 standard errors away; they are taken as many away as the interval of the difference is
    (expanded percentiles, Hesterberg 2015).
    """
    from scipy.stats import norm

    difference = paired_differences(scores, baseline)[MACRO]
    if not difference.stderr > 0:
        return (1 - LEVEL) / 2
    return float(norm.sf((difference.high - difference.low) / 2 / difference.stderr))


def _by_suite(runs: Sequence[RunFacts], baseline: Sequence[RunFacts]) -> _Race | None:
    finals = [run.final for run in baseline if run.final is not None]
    if len(finals) < len(baseline) or any(len(run.series) < MIN_SERIES for run in runs):
        return None
    if not all(run.final_tokens for run in baseline) or len({run.conditions for run in (*runs, *baseline)}) > 1:
        return None
    measured = [scores for run in runs for _, scores in run.series]
    if not all(scores.same_documents(finals[0]) for scores in (*finals, *measured)):
        return None
    curves = [
        (np.array([t for t, _ in run.series]), np.array([macro_bits_per_byte(scores) for _, scores in run.series]))
        for run in runs
    ]
    if len(_mean_curve(curves)[0]) < MIN_SERIES:
        return None
    targets = [macro_bits_per_byte(final) for final in finals]
    return _Race(curves, targets, [run.final_tokens for run in baseline], "checkpoints")


def _in_run(runs: Sequence[RunFacts], baseline: Sequence[RunFacts]) -> _Race | None:
    own, theirs = ([run.history.metrics.get((CURVE, MACRO)) for run in side] for side in (runs, baseline))
    curves = [(curve.tokens, curve.values) for curve in own if curve is not None]
    targets = [curve for curve in theirs if curve is not None]
    if len(curves) < len(runs) or len(targets) < len(baseline) or not len(_mean_curve(curves)[0]):
        return None
    return _Race(curves, [float(c.values[-1]) for c in targets], [float(c.tokens[-1]) for c in targets], "in-run")


def _mean_curve(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of learning curves at the tokens at which all of them were measured."""
    if len(curves) == 1:
        return curves[0]
    tokens = reduce(np.intersect1d, [t for t, _ in curves])
    return tokens, np.mean([values[np.isin(t, tokens)] for t, values in curves], axis=0)


def _reached(race: _Race) -> Saving:
    tokens, values = _mean_curve(race.curves)
    own = float(tokens_to_reach(tokens, values[:, None], np.array([np.mean(race.targets)]))[0])
    return Saving(own, 1 - own / float(np.mean(race.tokens)), source=race.source)
