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


def rates(sizes, seed=0, shift=0.0):
    """Scores of sources with so many documents each, all of 1,000 bytes; a shift that hardly varies."""
    sources = [f"s{number}" for number, size in enumerate(sizes) for _ in range(size)]
    rate = np.random.default_rng(1).normal(1.0, 0.2, len(sources))
    rate += shift + np.random.default_rng(seed).normal(0, 1e-4, len(sources))
    return make_scores(rate * 1000, [1000] * len(sources), sources)


@pytest.mark.parametrize("sizes", [(1,) * 16, (40, 1)])
def test_a_source_with_one_document_leaves_the_averages_without_an_interval(sizes):
    scores = rates(sizes)
    assert not scores.vary
    found = paired_differences(rates(sizes, seed=2, shift=0.01), scores)
    for domain in (f"s{len(sizes) - 1}", "macro", "micro"):
        assert found[domain].value > 0.009
        assert not found[domain].is_known and math.isnan(found[domain].stderr)
        assert not found[domain].excludes_zero
    assert found["macro"].num_documents == sum(sizes)
    assert found["s0"].excludes_zero == (sizes[0] > 1)
    assert not intervals(scores)["macro"].is_known


def test_averages_are_judged_by_the_sources_that_vary_most():
    def marked(sizes):
        found = paired_differences(rates(sizes, seed=2, shift=0.01), rates(sizes))
        assert found["macro"].low > 0 and found["micro"].low > 0
        return found["macro"].excludes_zero, found["micro"].excludes_zero

    assert marked((12, 12)) == (True, True)
    assert marked((2, 2, 2, 2)) == (False, False), "four degrees of freedom"
    assert marked((300, 2)) == (False, True), "half of macro are two documents, of micro hardly anything"
    assert marked((8,)) == (True, True)
    assert marked((7,)) == (False, False)


def test_micro_is_as_uncertain_as_macro_where_all_sources_are_alike():
    found = intervals(rates((2,) * 12))
    assert found["micro"].value == pytest.approx(found["macro"].value)
    assert found["micro"].stderr == pytest.approx(found["macro"].stderr)
    assert (found["micro"].low, found["micro"].high) == pytest.approx((found["macro"].low, found["macro"].high))


def test_different_documents_are_not_compared():
    with pytest.raises(ValueError, match="different documents"):
        paired_differences(random_scores(50, seed=1), random_scores(51, seed=1))


def test_tokens_to_reach():
    values = np.array([[4.0, 4.0, 1.0], [3.0, 4.0, 1.0], [2.0, 4.0, 1.0]])
    found = tokens_to_reach([100, 200, 300], values, np.array([2.5, 2.0, 2.0]))
    assert found[0] == pytest.approx(250)
    assert math.isnan(found[1])
    assert found[2] == 100
