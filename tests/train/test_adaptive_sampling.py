"""What adaptive sampling knows about the training samples."""

import numpy as np
import pytest
import torch

from toremi_cli.reweight import PolicyConfig, sampling_shares
from toremi_cli.train.adaptive_sampling import AdaptiveSampling
from toremi_cli.train.index import TopicPairs, build_index, topic_sizes
from toremi_cli.train.packing import RowStream


def test_topics_are_sized_in_what_the_loss_averages_over():
    # Samples 0 and 1 are of topic a, 2 of b, 3 of both; sample 4 is not for training.
    pairs = TopicPairs(["a", "b"], np.array([0, 1, 2, 3, 5, 6]), np.array([0, 0, 1, 0, 1, 1]), np.ones(6))
    length, counted = np.array([9, 19, 99, 39, 998]), np.array([True, True, True, True, False])
    assert topic_sizes(pairs, length, counted).tolist() == [[2.5, 1.5], [50, 120]]


def short_and_long(num_updates, weight, epochs=2):
    """A run that draws 2,000 samples of 10 tokens with `weight` beside 2,000 of 200; (sampling, shares, by length)."""
    num_predicted = np.repeat([10, 200], 2000)
    topic = np.repeat([0, 1], 2000).astype(np.int32)
    pairs = TopicPairs(["short", "long"], np.arange(4001), topic, np.ones(4000, np.float32))
    index = build_index(pairs, num_predicted - 1)
    sampling = AdaptiveSampling(index, num_predicted - 1, PolicyConfig(), "key", 0, corrects_loss=False)
    rows = RowStream(sampling.order, 100)
    interval = int(epochs * num_predicted.sum()) // 100 // num_updates
    shares, by_length = [], []
    for left in range(num_updates, 0, -1):
        sampling.update(torch.tensor([weight, 1.0]).double(), left * interval * 100, interval * 100)
        shares.append(sampling.order.draws.shares)
        of_strata = sampling.strata.weights([weight, 1.0]), sampling.strata.num_samples
        drawn, draws = sampling.order.draws.counts, int(left * interval * 100 / 105)
        by_length.append(sampling_shares(*of_strata, floor=0.1, max_repeats=4.0, drawn=drawn, remaining=draws))
        rows.next_rows(interval)
    return sampling, shares, by_length


def test_policies_are_told_what_floor_and_cap_made_of_their_weights():
    sampling, _, _ = short_and_long(2, weight=50.0)
    drawn, shares = sampling.drawn_weights(), sampling.order.draws.shares
    short, long = sampling.strata.stratum_of[[0, -1]]
    assert drawn.tolist() == pytest.approx([2 * shares[short], 2 * shares[long]])
    assert drawn[0] < 0.1, "its weight is 50, but it has been drawn as often as the cap allows"


@pytest.mark.parametrize("num_updates", [1, 2, 4])
def test_short_samples_are_not_repeated_too_often_in_a_run_of_few_intervals(num_updates):
    sampling, _, _ = short_and_long(num_updates, weight=50.0)
    assert 3.9 < sampling.repeats()[0] < 4.1


@pytest.mark.parametrize(("num_updates", "weight"), [(10, 50.0), (2, 1.5), (1, 1.0)])
def test_what_keeps_the_cap_by_the_mean_length_is_left_as_it_is(num_updates, weight):
    sampling, shares, by_length = short_and_long(num_updates, weight)
    assert sampling.repeats()[0] <= 4
    assert all(np.array_equal(a, b) for a, b in zip(shares, by_length, strict=True))
