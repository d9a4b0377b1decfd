import math

import numpy as np
import pytest

from tests.evaluate.documents import make_scores, random_scores
from toremi_cli.evaluate.intervals import Interval, intervals, paired_differences, surely_different


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


def test_a_handful_of_documents_proves_nothing():
    few = make_scores([10.0, 20.0, 30.0], [10, 20, 30])
    worse = make_scores([11.0, 22.0, 33.0], [10, 20, 30])
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


def bits(values, num_bytes):
    """A run whose documents differ by so many bits from one at 10 bits a document."""
    base = np.full(len(values), 10.0)
    return tuple(make_scores(v * math.log(2), num_bytes) for v in (base + np.array(values), base))


def test_the_interval_is_that_of_all_halves_of_few_documents():
    values, num_bytes = [3.0, -1.0, 2.0, 4.0, 0.5, 1.5, 2.5, -0.5], [10, 20, 5, 40, 8, 9, 11, 30]
    found = paired_differences(*bits(values, num_bytes))["a"]
    halves = sorted(
        sum(v for i, v in enumerate(values) if subset >> i & 1)
        / sum(b for i, b in enumerate(num_bytes) if subset >> i & 1)
        for subset in range(1, 256)
    )
    assert found.value == pytest.approx(sum(values) / sum(num_bytes))
    assert (found.low, found.high) == pytest.approx((halves[5], halves[-6])), "outside 2 x 6 of 256: 4.7%"
    flipped = [abs(sum(v if subset >> i & 1 else -v for i, v in enumerate(values))) for subset in range(256)]
    assert found.p_value == pytest.approx(np.mean([f >= sum(values) - 1e-9 for f in flipped])), "a sign-flip test"


def test_five_documents_have_a_t_interval_by_the_jackknife():
    values, num_bytes = np.array([1.0, 2.0, 0.5, 3.0, 1.5]), np.array([10, 10, 10, 10, 10])
    found = paired_differences(*bits(values, num_bytes))["a"]
    stderr = values.std(ddof=1) / math.sqrt(5) / 10 * math.sqrt(5 / 4)  # the jackknife's, a little wide
    assert found.stderr == pytest.approx(stderr)
    assert found.high - found.value == pytest.approx(2.7764 * stderr, rel=1e-4), "t of 4 degrees of freedom"
    assert not found.enough_documents and found.low > 0 and not found.excludes_zero


@pytest.mark.parametrize("size", [8, 30])
@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_runs_that_differ_in_nothing_are_told_apart_one_time_in_twenty(size, sigma):
    generator = np.random.default_rng(size)
    wrong = 0
    for _ in range(600):
        num_bytes = np.maximum(np.exp(generator.normal(7, sigma, size)), 1).astype(int)
        found = paired_differences(*bits(generator.normal(0, 0.02, size) * num_bytes, num_bytes))["a"]
        wrong += found.excludes_zero
    assert 0.03 <= wrong / 600 <= 0.07, "5%, and 2.2 standard errors of 600 trials"


def test_an_average_takes_the_degrees_of_freedom_that_its_sources_are_worth_together():
    found = paired_differences(rates((12, 20), seed=2, shift=0.01), rates((12, 20)))
    errors = [found[d].stderr / 2 for d in ("s0", "s1")]
    stderr = math.hypot(*errors)
    freedom = stderr**4 / (errors[0] ** 4 / 11 + errors[1] ** 4 / 19)
    from scipy.stats import t

    assert found["macro"].stderr == pytest.approx(stderr)
    assert found["macro"].high - found["macro"].value == pytest.approx(t.ppf(0.975, freedom) * stderr)
    assert 11 < freedom < 30


def test_of_many_sources_only_those_are_sure_that_stand_the_correction_for_their_number():
    def with_p(p_value, enough=True):
        return Interval(-0.1, -0.2, -0.01, 0.05, 20, enough, p_value)

    found = {"a": with_p(0.001), "b": with_p(0.02), "c": with_p(0.03), "d": with_p(0.8), "macro": with_p(0.04)}
    # Holm: .001 <= .05/4, .02 > .05/3, and nothing after that
    assert surely_different(found) == {"a", "macro"}
    assert surely_different({"b": with_p(0.02), "c": with_p(0.03)}) == {"b", "c"}, ".02 <= .05/2, .03 <= .05"
    assert surely_different({"a": with_p(0.001, enough=False), "b": with_p(0.05)}) == {"b"}, "too few are no test"
    assert surely_different({"a": with_p(math.nan)}) == set()


def test_random_halves_say_no_more_than_they_resolve_and_t_says_the_rest():
    values = 1 + np.random.default_rng(0).normal(0, 0.01, 60)
    found = paired_differences(*bits(values, [100] * 60))["a"]
    assert found.p_value < 1e-30, "the mean is a thousand standard errors from zero"
    assert paired_differences(*bits([0.0] * 60, [100] * 60))["a"].p_value == 1
