"""What adaptive sampling knows about the training samples."""

import numpy as np

from toremi_cli.train.sampling import topic_sizes
from toremi_cli.train.tokens import TopicPairs


def test_topics_are_sized_in_what_the_loss_averages_over():
    # Samples 0 and 1 are of topic a, 2 of b, 3 of both; sample 4 is not for training.
    pairs = TopicPairs(["a", "b"], np.array([0, 1, 2, 3, 5, 6]), np.array([0, 0, 1, 0, 1, 1]), np.ones(6))
    samples, num_predicted = np.arange(4), np.array([10, 20, 100, 40, 999])
    assert topic_sizes(samples, pairs, num_predicted, "token") == [50, 120]
    assert topic_sizes(samples, pairs, num_predicted, "sample") == [2.5, 1.5]
