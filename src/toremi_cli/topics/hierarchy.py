"""How topics lie to each other, by the vectors of their samples: coarse levels above them, and how crowded each is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from toremi_cli.topics.keywords import class_tfidf, new_topic_name
from toremi_cli.topics.vectors.bags import Vocabulary, normalize_rows


@dataclass(frozen=True)
class Level:
    """One level of coarse topics: `parent` (num_topics,) of each fine topic, and the names of the coarse ones."""

    parent: list[int]
    names: list[str]


def topic_sums(topic: np.ndarray, vectors: np.ndarray, num_topics: int) -> np.ndarray:
    """(num_topics, dim) float64 sums of the vectors of each topic's samples."""
    members = sp.csr_matrix((np.ones(len(topic)), (topic, np.arange(len(topic)))), (num_topics, len(topic)))
    return np.asarray(members @ vectors.astype(np.float64))


def crowding(sums: np.ndarray) -> np.ndarray:
    """How many topics there are of each topic's kind, itself included: its centre's squared cosines to all centres.

    1 for a topic that has nothing in common with any other, k for one of k equal ones. It is the ordinariness of a kind
    among equally frequent ones by Leinster and Cobbold ("Measuring diversity: the importance of species similarity",
    Ecology 93, 2012), with the positive part of the cosine, squared, for the similarity.

    Args:
        sums: (num_topics, dim) the sum of the vectors of each topic's samples.

    Returns:
        (num_topics,) between 1 and num_topics.
    """
    centres = normalize_rows(sums)
    alike = (np.maximum(centres @ centres.T, 0.0) ** 2).sum(axis=1)
    return np.asarray(np.maximum(alike, 1.0))  # a topic without a known word has no place among them


def merge_closest(sums: np.ndarray, num_groups: int) -> np.ndarray:
    """Merge topics by average linkage of their centres' cosines.

    The centres' mean is taken off first: what all topics share, such as the genre, says nothing about which are close.
    Sizes don't count: by them, as in `merge_cheapest`, a corpus' rare kinds would be thrown together.

    Args:
        sums: (num_topics, dim) the sum of the vectors of each topic's samples.
        num_groups: how many to leave.

    Returns:
        (num_topics,) the group of each topic; a group is numbered as its first topic is ranked.
    """
    from scipy.cluster.hierarchy import cut_tree

    if len(sums) <= num_groups:
        return np.arange(len(sums))
    found = cut_tree(_average_linkage(sums), num_groups).ravel()
    _, first, group = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def closest_first(sums: np.ndarray) -> list[tuple[int, int]]:
    """The merges that `merge_closest` makes, in order: which two groups; merge i makes group num_topics + i.

    Args:
        sums: (num_topics, dim) the sum of the vectors of each topic's samples.
    """
    return [(int(first), int(second)) for first, second in _average_linkage(sums)[:, :2]] if len(sums) > 1 else []


def _average_linkage(sums: np.ndarray) -> np.ndarray:
    """SciPy's tree (num_topics - 1, 4) of at least two topics."""
    from scipy.cluster.hierarchy import average
    from scipy.spatial.distance import pdist

    centres = normalize_rows(sums)
    centres = normalize_rows(centres - centres.mean(axis=0))
    return np.asarray(average(pdist(centres, "sqeuclidean")))


def merge_cheapest(sums: np.ndarray, num_groups: int) -> np.ndarray:
    """Merge topics, each time the two whose samples lose least in cosine to their centre; small ones go first (Ward).

    Args:
        sums: (num_topics, dim) the sum of the vectors of each topic's samples.
        num_groups: how many to leave.

    Returns:
        (num_topics,) the group of each topic; a group is numbered as its first topic is ranked.
    """
    members = [[k] for k in range(len(sums))]
    sums = np.array(sums, dtype=np.float64)
    while len(members) > num_groups:
        length = np.linalg.norm(sums, axis=1)
        together = np.linalg.norm(sums[:, None] + sums[None], axis=2)
        loss = length[:, None] + length[None] - together
        np.fill_diagonal(loss, np.inf)
        first, second = sorted(divmod(int(loss.argmin()), len(sums)))
        sums[first] += sums[second]
        members[first] += members.pop(second)
        sums = np.delete(sums, second, axis=0)
    group = np.empty(sum(map(len, members)), np.int64)
    for number, topics in enumerate(members):
        group[topics] = number
    return group


def roll_up(
    topic: np.ndarray, vectors: np.ndarray, counts: sp.csr_matrix, vocabulary: Vocabulary, num_topics: int, levels: int
) -> list[Level]:
    """The coarser levels above the topics, finest first; their numbers of topics fall in equal ratios.

    Args:
        topic: (num_samples,) the topic of each sample fitted on.
        vectors: (num_samples, dim).
        counts: (num_samples, num_words), for the names.
        vocabulary: the words.
        num_topics: fine topics.
        levels: levels in all, the fine topics among them.
    """
    members = sp.csr_matrix((np.ones(len(topic)), (topic, np.arange(len(topic)))), (num_topics, len(topic)))
    sums, words = topic_sums(topic, vectors, num_topics), sp.csr_matrix(members @ counts)
    place_of_word = normalize_rows(counts.T @ vectors.astype(np.float64))
    above = []
    for level in range(1, levels):
        number = max(1, round(num_topics ** ((levels - level) / levels)))
        group = merge_closest(sums, number)
        merged = sp.csr_matrix((np.ones(num_topics), (group, np.arange(num_topics))), (group.max() + 1, num_topics))
        names: list[str] = []
        places = normalize_rows(merged @ sums), place_of_word
        for keywords in class_tfidf(sp.csr_matrix(merged @ words), vocabulary.words, 10, vectors=places):
            names.append(new_topic_name([word for word, _ in keywords], set(names)))
        above.append(Level(group.tolist(), names))
    return above
