"""Scores: topics against labels, coherence of their words, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score, v_measure_score

from toremi_cli.topics.vectors.bags import Vocabulary, word_lists

TOP_WORDS = 10
COVERAGES = (1.0, 0.9, 0.8, 0.6, 0.4)
RESAMPLES = 200


@dataclass
class Outcome:
    """What one method made of one set with one seed.

    `topic` and `agreement` (num_samples,); `words` of each topic, strongest first, as its package shows them; `scores`
    begin with what it cost.
    """

    topic: np.ndarray
    agreement: np.ndarray
    words: list[list[str]]
    scores: dict[str, float] = field(default_factory=dict)


def quality(outcome: Outcome, labels: np.ndarray) -> dict[str, float]:
    """Agreement of topics and labels."""
    return {
        "AMI": float(adjusted_mutual_info_score(labels, outcome.topic)),
        "NMI": float(normalized_mutual_info_score(labels, outcome.topic)),
        "V": float(v_measure_score(labels, outcome.topic)),
        "purity": float(matches(outcome.topic, labels).mean()),
    }


def matches(topic: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(num_samples,) whether a sample's label is the most frequent one of its topic."""
    right = np.zeros(len(labels), bool)
    for k in np.unique(topic):
        names, counts = np.unique(labels[topic == k], return_counts=True)
        right |= (topic == k) & (labels == names[counts.argmax()])
    return right


def precision_by_coverage(outcome: Outcome, labels: np.ndarray) -> list[float]:
    """Precision among the samples of highest agreement, for each of COVERAGES."""
    right = matches(outcome.topic, labels)[np.argsort(-outcome.agreement, kind="stable")]
    return [float(right[: round(len(right) * share)].mean()) for share in COVERAGES]


class Coherence:
    """NPMI over documents, and diversity of the topics' first words."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.documents = word_lists(texts)
        self.vocabulary = Vocabulary.learn(self.documents, 20_000, 2)
        present = self.vocabulary.count(self.documents).tocsc()
        present.data[:] = 1
        self.present = present

    def of(self, outcome: Outcome) -> dict[str, float]:
        """Means over the topics that have enough words."""
        words = first_words(outcome.words)
        distinct = {word for topic in words for word in topic}
        return {
            "NPMI": self.npmi(outcome.words),
            "diversity": len(distinct) / sum(len(topic) for topic in words),
        }

    def npmi(self, topics: list[list[str]]) -> float:
        """Of each topic's first words, mean over pairs and topics; words that are no keywords here don't count."""
        return float(np.nanmean([_npmi(columns) for columns in self.columns(topics)]))

    def columns(self, topics: list[list[str]]) -> list[np.ndarray]:
        """For each topic (num_documents, num_words) float32: which documents hold its first words."""
        index = self.vocabulary.index
        known = [[index[word] for word in topic if word in index] for topic in first_words(topics)]
        return [self.present[:, columns].toarray().astype(np.float32) for columns in known]


def first_words(topics: list[list[str]]) -> list[list[str]]:
    """The first TOP_WORDS of each topic that has so many."""
    return [topic[:TOP_WORDS] for topic in topics if len(topic) >= TOP_WORDS]


def _npmi(columns: np.ndarray) -> float:
    """Mean NPMI of pairs of words; never together: -1. NaN of less than two words."""
    if columns.shape[1] < 2:
        return float("nan")
    together = columns.T @ columns / len(columns)
    alone = np.diag(together)
    first, second = np.triu_indices(len(together), 1)
    joint = together[first, second]
    with np.errstate(divide="ignore", invalid="ignore"):
        npmi = np.log(joint / (alone[first] * alone[second])) / -np.log(joint)
    return float(np.where(joint > 0, npmi, -1.0).mean())


def paired_differences(
    by_method: dict[str, list[Outcome]], ours: str, labels: np.ndarray
) -> dict[str, dict[str, float]]:
    """Mean difference of AMI between one method and each other, with 95% intervals.

    Each resample draws documents and seeds with replacement, the same for all methods.
    """
    generator = np.random.default_rng(0)
    num_seeds = len(by_method[ours])
    resamples: list[dict[str, float]] = []
    for _ in range(RESAMPLES):
        rows = generator.integers(len(labels), size=len(labels))
        seeds = generator.integers(num_seeds, size=num_seeds)
        ami = {}
        for method, several in by_method.items():
            of_seed = {i: adjusted_mutual_info_score(labels[rows], several[i].topic[rows]) for i in set(seeds.tolist())}
            ami[method] = float(np.mean([of_seed[i] for i in seeds]))
        resamples.append(ami)
    return {
        method: _interval(
            [o.scores["AMI"] - t.scores["AMI"] for o, t in zip(by_method[ours], theirs, strict=True)],
            [resample[ours] - resample[method] for resample in resamples],
        )
        for method, theirs in by_method.items()
        if method != ours
    }


def _interval(measured: list[float], resampled: list[float]) -> dict[str, float]:
    """Centred on what was measured: a resample lacks a third of the documents."""
    mean = float(np.mean(measured))
    low, high = mean + np.quantile(np.array(resampled) - np.mean(resampled), [0.025, 0.975])
    return {"mean": mean, "low": float(low), "high": float(high)}
