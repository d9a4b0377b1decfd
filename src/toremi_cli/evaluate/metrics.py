"""Metrics of predictions against the truth, with standard errors over examples and seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

REPLICATES = 1000
Metric = Callable[[np.ndarray, np.ndarray], float]
"""From the truth and the predictions, each of shape (num_examples,), to a number."""


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the right ones."""
    return float((truth == predicted).mean())


def f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """F1 of class 1; 0 where neither side has it."""
    hits = float(((truth == 1) & (predicted == 1)).sum())
    total = float((truth == 1).sum() + (predicted == 1).sum())
    return 2 * hits / total if total else 0.0


def mcc(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews' correlation of two classes; 0 where one side is constant."""
    return pearson(truth.astype(float), predicted.astype(float))


def pearson(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Pearson's correlation; 0 where one side is constant."""
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(np.corrcoef(truth, predicted)[0, 1])


def spearman(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's rank correlation; 0 where one side is constant."""
    from scipy.stats import rankdata

    return pearson(rankdata(truth), rankdata(predicted))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "f1": f1, "mcc": mcc, "pearson": pearson, "spearman": spearman}


def score(metric: str, truth: np.ndarray, predictions: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean over the seeds' predictions, and its standard error.

    Two things make the number uncertain: which examples there are (bootstrap, the same draws for all seeds) and, with
    several seeds, how a fine-tuning happens to turn out. Their variances add up. With one seed only the first is known.
    """
    measure = METRICS[metric]
    values = [measure(truth, predicted) for predicted in predictions]
    draws = np.random.default_rng(0).integers(0, len(truth), (REPLICATES, len(truth)))
    means = [np.mean([measure(truth[d], predicted[d]) for predicted in predictions]) for d in draws]
    variance = float(np.var(means, ddof=1))
    if len(values) > 1:
        variance += float(np.var(values, ddof=1)) / len(values)
    return float(np.mean(values)), math.sqrt(variance)
