import math

import numpy as np
import pytest

from tests.evaluate.documents import make_scores, random_scores
from toremi_cli.evaluate.bootstrap import bits_per_byte, macro_replicates, tokens_to_reach


def test_bits_per_byte_weigh_documents_by_length():
    scores = make_scores([math.log(2) * 8, math.log(2) * 2], [8, 1])
    assert bits_per_byte(scores)["a"] == pytest.approx(10 / 9)
    scores = make_scores([math.log(2) * 8, math.log(2) * 2], [8, 1], ["a", "b"])
    found = bits_per_byte(scores)
    assert (found["a"], found["b"], found["macro"]) == pytest.approx((1, 2, 1.5))
    assert found["micro"] == pytest.approx(10 / 9)


def test_replicates_depend_on_nothing_but_the_documents():
    a, b = random_scores(50, seed=5), random_scores(50, seed=5)
    assert np.array_equal(macro_replicates(a), macro_replicates(b))
    assert not np.array_equal(macro_replicates(a), macro_replicates(a, seed=1))


def test_a_resample_of_few_documents_is_widened_to_the_right_variance():
    rate = np.array([1.0, 2.0, 3.0, 4.0])
    spread = macro_replicates(make_scores(rate * math.log(2) * 1000, [1000] * 4), num_replicates=20_000).std()
    assert spread == pytest.approx(rate.std(ddof=1) / 2, rel=0.02), "not the 13% less of a plain bootstrap"


def test_tokens_to_reach():
    values = np.array([[4.0, 4.0, 1.0], [3.0, 4.0, 1.0], [2.0, 4.0, 1.0]])
    found = tokens_to_reach([100, 200, 300], values, np.array([2.5, 2.0, 2.0]))
    assert found[0] == pytest.approx(250)
    assert math.isnan(found[1])
    assert found[2] == 100
