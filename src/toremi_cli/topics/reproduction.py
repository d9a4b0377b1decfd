"""What halves of the samples reproduce: of a cut how much, and of a tree of topics which splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from toremi_cli.topics.hierarchy import closest_first, merge_closest, topic_sums

PENALTY = 1.5
"""What a nat that a cut makes up costs, relative to what one that comes out again is worth."""
LEAST_REPRODUCED = PENALTY / (1 + PENALTY)
"""The reproduced part of a split at which its score is 0."""


@dataclass(frozen=True)
class Half:
    """What the model of one half of some samples says of all of them, the other half too.

    `rows` (num_rows,) of the samples; `topic` (num_rows,) of each, numbered by that model; `died`: whether topics died
    out when it was fitted.
    """

    rows: np.ndarray
    topic: np.ndarray
    died: bool


def score(agreement: float, entropy: float) -> float:
    """What a cut of so much `entropy` (nats) tells again and again, less the penalty for what it makes up."""
    return entropy * (agreement - PENALTY * (1 - agreement))


def entropy_of(labels: np.ndarray) -> float:
    """Of the labels' shares, in nats."""
    share = np.bincount(labels) / len(labels)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def merge_unreproduced(topic: np.ndarray, vectors: np.ndarray, num_topics: int, halves: Sequence[Half]) -> np.ndarray:
    """Roll topics up into as many as the halves' models tell apart.

    The topics are merged as for the coarser levels, the closest first. Each merge, read backwards, splits a group in
    two. A split that is worth its penalty, on the mean of the halves, counts, and so many splits are left. (Which they
    are the tree decides: leaving just those that count agrees with labels less well.)

    Args:
        topic: (num_samples,) of each sample.
        vectors: (num_samples, dim).
        num_topics: how many topics there are.
        halves: what models of halves of the samples say, each with as many topics.

    Returns:
        (num_topics,) the group of each topic.
    """
    sums = topic_sums(topic, vectors, num_topics)
    counts = [_contingency(topic[half.rows], half.topic, num_topics) for half in halves]
    members = [[k] for k in range(num_topics)]
    num_splits = 0
    for first, second in closest_first(sums):
        reproduced = [reproduced_part(each[members[first]].sum(axis=0), each[members[second]].sum(axis=0))
                      for each in counts]  # fmt: skip
        num_splits += float(np.mean(reproduced)) >= LEAST_REPRODUCED
        members.append(members[first] + members[second])
    return merge_closest(sums, 1 + num_splits)


def reproduced_part(one: np.ndarray, two: np.ndarray) -> float:
    """How much of what splits a group in two another model tells too: 1 all of it, 0 no more than chance would.

    It is the mutual information of the split and the other model's topics, both less what is expected by chance, in
    proportion to the split's entropy. The other model may cut the group further without losing by it. (Adjustment for
    chance: Vinh et al. 2010, "Information theoretic measures for clusterings comparison".)

    Args:
        one: (num_topics,) how many samples of the first side the other model puts into each of its topics.
        two: (num_topics,) of the second side.
    """
    from sklearn.metrics import mutual_info_score
    from sklearn.metrics.cluster import expected_mutual_information

    counts = np.vstack([one, two])
    counts = counts[:, counts.sum(axis=0) > 0]
    sides = counts.sum(axis=1)
    if not sides.all():
        return 1.0  # a side without samples among those that were halved: nothing speaks against it
    entropy = entropy_of(np.repeat([0, 1], sides))
    by_chance = expected_mutual_information(counts, int(sides.sum())) if counts.shape[1] > 1 else 0.0
    if entropy - by_chance < 1e-9:  # all samples in topics of their own: any labels would tell as much
        return 0.0
    return float((mutual_info_score(None, None, contingency=counts) - by_chance) / (entropy - by_chance))


def _contingency(one: np.ndarray, two: np.ndarray, num_topics: int) -> np.ndarray:
    """(num_topics, topics of `two`) how many samples have both."""
    shape = num_topics, int(two.max()) + 1
    return sp.csr_matrix((np.ones(len(one), np.int64), (one, two)), shape).toarray()
