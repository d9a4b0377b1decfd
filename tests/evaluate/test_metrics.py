import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from toremi_cli.evaluate.metrics import METRICS, score


def labels(seed, size=200):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, size).astype(float)
    return truth, np.where(generator.random(size) < 0.7, truth, 1 - truth)


def test_metrics_are_those_of_scikit_learn_and_scipy():
    truth, predicted = labels(0)
    assert METRICS["accuracy"](truth, predicted) == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
    assert METRICS["f1"](truth, predicted) == pytest.approx(sklearn.metrics.f1_score(truth, predicted))
    assert METRICS["mcc"](truth, predicted) == pytest.approx(sklearn.metrics.matthews_corrcoef(truth, predicted))
    numbers = np.round(truth * 3 + np.random.default_rng(1).normal(size=200), 1)
    assert METRICS["pearson"](truth, numbers) == pytest.approx(scipy.stats.pearsonr(truth, numbers).statistic)
    assert METRICS["spearman"](truth, numbers) == pytest.approx(scipy.stats.spearmanr(truth, numbers).statistic)


def test_a_constant_prediction_scores_nothing():
    truth, _ = labels(0)
    assert METRICS["mcc"](truth, np.ones(200)) == METRICS["spearman"](truth, np.ones(200)) == 0.0
    assert METRICS["f1"](np.zeros(4), np.zeros(4)) == 0.0


def test_the_error_of_an_accuracy_is_the_binomial_one():
    truth, predicted = labels(2)
    value, stderr = score("accuracy", truth, [predicted])
    assert stderr == pytest.approx(np.sqrt(value * (1 - value) / 200), rel=0.1)


def test_seeds_that_disagree_widen_the_error():
    truth, predicted = labels(3)
    same, _ = score("accuracy", truth, [predicted])
    mean, narrow = score("accuracy", truth, [predicted, predicted])
    assert mean == same
    value, wide = score("accuracy", truth, [predicted, 1 - predicted])
    assert value == pytest.approx(0.5)
    spread = abs(2 * same - 1)  # between the two seeds' accuracies
    assert wide == pytest.approx(spread / 2, rel=0.05), "sd / sqrt(2) of two values is half their distance"
    assert narrow < wide
