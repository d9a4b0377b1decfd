import math

import numpy as np
import pytest

from toremi_cli.evaluate.bootstrap import (
    DocumentScores,
    bits_per_byte,
    intervals,
    paired_differences,
    replicates,
    tokens_to_reach,
)


def make_scores(nats, num_bytes, sources=None):
    n = len(nats)
    sources = np.array(sources or ["a"] * n)
    ids = np.array([f"d{i:04d}" for i in range(n)])
    return DocumentScores(sources, ids, np.array(nats, float), np.array(num_bytes) // 4, np.array(num_bytes))


def random_scores(n, seed, shift=0.0):
    noise = np.random.default_rng(seed)
    num_bytes = np.random.default_rng(0).integers(100, 5000, n)
    rate = np.random.default_rng(1).normal(1.0, 0.2, n) + shift + noise.normal(0, 0.01, n)
    return make_scores(rate * num_bytes, num_bytes, ["a" if i % 3 else "b" for i in range(n)])


def test_bits_per_byte_weigh_documents_by_length():
    scores = make_scores([math.log(2) * 8, math.log(2) * 2], [8, 1])
    assert bits_per_byte(scores)["a"] == pytest.approx(10 / 9)
    scores = make_scores([math.log(2) * 8, math.log(2) * 2], [8, 1], ["a", "b"])
    found = bits_per_byte(scores)
    assert (found["a"], found["b"], found["macro"]) == pytest.approx((1, 2, 1.5))
    assert found["micro"] == pytest.approx(10 / 9)


def test_the_standard_error_is_that_of_a_ratio_estimate():
    scores = random_scores(600, seed=2)
    found = intervals(scores)["a"]
    own = scores.sources == "a"
    bits, size = scores.nats[own] / math.log(2), scores.num_bytes[own]
    ratio = bits.sum() / size.sum()
    analytic = math.sqrt(((bits - ratio * size) ** 2).sum()) / size.sum()  # linearised
    assert found.stderr == pytest.approx(analytic, rel=0.1)
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(3.92 * analytic, rel=0.12)


def test_paired_differences_see_what_unpaired_intervals_hide():
    worse, better = random_scores(300, seed=3, shift=0.005), random_scores(300, seed=4)
    difference = paired_differences(worse, better)["macro"]
    assert difference.excludes_zero and difference.low > 0
    first, second = intervals(worse)["macro"], intervals(better)["macro"]
    assert first.low < second.high, "the separate intervals overlap"
    same = paired_differences(worse, worse)["macro"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_replicates_depend_on_nothing_but_the_documents():
    a, b = random_scores(50, seed=5), random_scores(50, seed=5)
    assert np.array_equal(replicates(a)["macro"], replicates(b)["macro"])
    assert not np.array_equal(replicates(a)["macro"], replicates(a, seed=1)["macro"])


def test_a_handful_of_documents_proves_nothing():
    few = make_scores([10.0, 20.0, 30.0], [10, 20, 30])
    worse = make_scores([11.0, 21.0, 31.0], [10, 20, 30])
    difference = paired_differences(worse, few)["a"]
    assert difference.low > 0 and not difference.excludes_zero


def test_different_documents_are_not_compared():
    with pytest.raises(ValueError, match="different documents"):
        paired_differences(random_scores(50, seed=1), random_scores(51, seed=1))


def test_tokens_to_reach():
    values = np.array([[4.0, 4.0, 1.0], [3.0, 4.0, 1.0], [2.0, 4.0, 1.0]])
    found = tokens_to_reach([100, 200, 300], values, np.array([2.5, 2.0, 2.0]))
    assert found[0] == pytest.approx(250)
    assert math.isnan(found[1])
    assert found[2] == 100
