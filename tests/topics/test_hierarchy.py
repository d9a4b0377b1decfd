import numpy as np
import pytest
import scipy.sparse as sp

from toremi_cli.topics.hierarchy import crowding, merge_cheapest, merge_closest, roll_up
from toremi_cli.topics.vectors.bags import Vocabulary, normalize_rows

GENRE = np.array([3.0, 0, 0, 0, 0])
KINDS = np.array([[0, 1, 0, 0, 0], [0, 0.9, 0.2, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0.9, 0.2]])


def topic_sums(sizes):
    """(4, 5): two kinds with two topics each; all share a genre, which is most of their vectors."""
    return normalize_rows(GENRE + KINDS) * np.array(sizes)[:, None]


def test_topics_of_a_kind_are_merged_whatever_their_sizes():
    for sizes in ([1, 1, 1, 1], [500, 3, 4, 400], [3, 2, 900, 900]):
        assert merge_closest(topic_sums(sizes), 2).tolist() == [0, 0, 1, 1]


def test_topics_of_a_kind_crowd_each_other_whatever_their_sizes():
    alone, opposite, like = [0.0, 0.0, 3.0], [0.0, 0.0, -1.0], [[5.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.2, 0.0, 0.0]]
    assert crowding(np.array([alone, opposite, *like])) == pytest.approx([1, 1, 3, 3, 3])
    half = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert crowding(half) == pytest.approx([1.5, 1.5])  # cosine^2 of 45 degrees


def test_groups_are_numbered_by_their_first_topic():
    assert merge_closest(topic_sums([1, 1, 1, 1])[[3, 0, 2, 1]], 2).tolist() == [0, 1, 0, 1]
    assert merge_closest(topic_sums([1, 1, 1, 1]), 4).tolist() == [0, 1, 2, 3]
    assert merge_closest(topic_sums([1, 1, 1, 1]), 1).tolist() == [0, 0, 0, 0]
    assert merge_closest(np.ones((3, 2)), 2).max() == 1, "equal centres still make the number asked for"


def test_the_cheapest_merge_spares_the_large_topics():
    sums = np.array([[100.0, 0], [95, 30], [1, 0.2], [0.9, 1]])
    assert merge_cheapest(sums, 3).tolist() == [0, 1, 1, 2]
    assert len(set(merge_cheapest(sums, 2)[:2])) == 2


def test_levels_are_nested_and_named_by_the_words_of_many_samples():
    topic = np.repeat(np.arange(4), 5)
    vectors = normalize_rows(GENRE + KINDS)[topic].astype(np.float32)
    vocabulary = Vocabulary(["goal", "match", "court", "judge"])
    counts = sp.csr_matrix(np.array([[1, 1, 0, 0]] * 10 + [[0, 0, 1, 1]] * 10, dtype=float))
    fine, coarse = roll_up(topic, vectors, counts, vocabulary, num_topics=4, levels=3)
    assert len(set(fine.parent)) == 3 and coarse.parent == [0, 0, 1, 1]
    parent_of = dict(zip(fine.parent, coarse.parent, strict=True))
    assert all(parent_of[one] == two for one, two in zip(fine.parent, coarse.parent, strict=True)), "nested"
    assert [set(name.split("-")) for name in coarse.names] == [{"goal", "match"}, {"court", "judge"}]
