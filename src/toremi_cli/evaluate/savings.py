"""Compute saved: how many tokens runs need to come down to a baseline's final held-out loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from toremi_cli.evaluate.bootstrap import macro_bits_per_byte, replicates, tokens_to_reach
from toremi_cli.evaluate.run_facts import RunFacts
from toremi_cli.evaluate.seeds import over_seeds, pairs_of
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


@dataclass(frozen=True)
class _Race:
    """Learning curves of runs, each as tokens and values of shape (num_points,), and what they are to reach."""

    curves: list[tuple[np.ndarray, np.ndarray]]
    targets: list[float]
    """The baseline runs' final values."""
    tokens: list[float]
    """What these runs were trained on."""
    source: str


def saving_of(runs: Sequence[RunFacts], baseline: Sequence[RunFacts]) -> Saving | None:
    """Mean over the pairs of `pairs_of`; where there are none, the runs' mean curve against the mean final value.

    A curve of one seed is never held against the final value of another unless there is one run on either side.
    """
    paired = pairs_of(runs, baseline)
    if not paired:
        return _of_means(runs, baseline)
    found = [s for run, other in paired if (s := _of_pair(run, other)) is not None]
    if len(found) <= 1:
        return found[0] if found else None
    shares = [s.saved for s in found]
    if any(math.isnan(s) for s in shares):
        return Saving(math.nan, math.nan, source=found[0].source)
    whole = over_seeds(shares)
    return Saving(float(np.mean([s.tokens for s in found])), whole.value, whole.low, whole.high, found[0].source)


def _of_means(runs: Sequence[RunFacts], baseline: Sequence[RunFacts]) -> Saving | None:
    found = _by_suite(runs, baseline) or _in_run(runs, baseline)
    return _reached(found) if found else None


def _of_pair(run: RunFacts, base: RunFacts) -> Saving | None:
    """By the suite with an interval over its documents, else by the validation curves."""
    found = _of_means([run], [base])
    if found is None or found.source != "checkpoints" or base.final is None or not base.final.vary:
        return found
    sampled = np.stack([replicates(scores)[MACRO] for _, scores in run.series])
    tokens = [t for t, _ in run.series]
    spread = 1 - tokens_to_reach(tokens, sampled, replicates(base.final)[MACRO]) / base.tokens
    # A resampled curve that never gets there has saved less than any that does.
    spread = np.where(np.isnan(spread), -np.inf, spread)
    low, high = (float(np.quantile(spread, q, method="nearest")) for q in (0.025, 0.975))
    return Saving(found.tokens, found.saved, low, high, found.source)


def _by_suite(runs: Sequence[RunFacts], baseline: Sequence[RunFacts]) -> _Race | None:
    finals = [run.final for run in baseline if run.final is not None]
    if len(finals) < len(baseline) or any(len(run.series) < MIN_SERIES for run in runs):
        return None
    if not all(run.tokens for run in (*runs, *baseline)):
        return None
    if not all(scores.same_documents(finals[0]) for scores in (*finals, *(run.series[0][1] for run in runs))):
        return None
    curves = [
        (np.array([t for t, _ in run.series]), np.array([macro_bits_per_byte(scores) for _, scores in run.series]))
        for run in runs
    ]
    if len(_mean_curve(curves)[0]) < MIN_SERIES:
        return None
    return _Race(curves, [macro_bits_per_byte(f) for f in finals], [run.tokens for run in baseline], "checkpoints")


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
