"""Scores of `topic_quality.py`: topics against labels, coherence of their words, and paired differences."""

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

    `topic` and `agreement` (num_samples,); `words` of each topic, strongest first, as the product shows them;
    `own_words`: as the method by itself would show them, where it has a way of its own.
    """

    topic: np.ndarray
    agreement: np.ndarray
    words: list[list[str]]
    own_words: list[list[str]] | None = None
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
    """NPMI over documents, c_v, and diversity of the topics' first words."""

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
        scores = {
            "NPMI": self.npmi(outcome.words),
            "c_v": self._c_v(words),
            "diversity": len(distinct) / sum(len(topic) for topic in words),
        }
        if outcome.own_words is not None:
            scores["NPMI of own words"] = self.npmi(outcome.own_words)
        return scores

    def npmi(self, topics: list[list[str]]) -> float:
        """Of each topic's first words, mean over pairs and topics."""
        everything = np.ones(self.present.shape[0])
        return float(np.mean([_npmi(columns, everything) for columns in self.columns(topics)]))

    def columns(self, topics: list[list[str]]) -> list[np.ndarray]:
        """For each topic (num_documents, num_words) float32: which documents hold its first words."""
        index = self.vocabulary.index
        known = [[index[word] for word in topic if word in index] for topic in first_words(topics)]
        return [self.present[:, columns].toarray().astype(np.float32) for columns in known]

    def _c_v(self, topics: list[list[str]]) -> float:
        from gensim.corpora import Dictionary
        from gensim.models import CoherenceModel

        wanted = {word for topic in topics for word in topic}
        documents = [[word if word in wanted else "-" for word in words] for words in self.documents if words]
        dictionary = Dictionary(documents)
        model = CoherenceModel(topics=topics, texts=documents, dictionary=dictionary, coherence="c_v", processes=1)
        return float(model.get_coherence())


def first_words(topics: list[list[str]]) -> list[list[str]]:
    """The first TOP_WORDS of each topic that has so many."""
    return [topic[:TOP_WORDS] for topic in topics if len(topic) >= TOP_WORDS]


def _npmi(columns: np.ndarray, times: np.ndarray) -> float:
    """Mean NPMI of pairs of words; `times` (num_documents,): how often each document counts. Never together: -1."""
    together = (columns * times[:, None]).T @ columns / times.sum()
    alone = np.diag(together)
    first, second = np.triu_indices(len(together), 1)
    joint = together[first, second]
    with np.errstate(divide="ignore", invalid="ignore"):
        npmi = np.log(joint / (alone[first] * alone[second])) / -np.log(joint)
    return float(np.where(joint > 0, npmi, -1.0).mean())


def paired_differences(
    by_method: dict[str, list[Outcome]], ours: str, labels: np.ndarray, coherence: Coherence
) -> dict[str, dict[str, dict[str, float]]]:
    """Mean difference of AMI and NPMI between one method and each other, with 95% intervals.

    Each resample draws documents and seeds with replacement, the same for all methods.
    """
    generator = np.random.default_rng(0)
    num_seeds = len(by_method[ours])
    columns = {m: [coherence.columns(o.words) for o in several] for m, several in by_method.items()}
    drawn: dict[str, list[dict[str, float]]] = {"AMI": [], "NPMI": []}
    for _ in range(RESAMPLES):
        rows = generator.integers(len(labels), size=len(labels))
        times = np.bincount(rows, minlength=len(labels)).astype(np.float32)
        seeds = generator.integers(num_seeds, size=num_seeds)
        ami, npmi = {}, {}
        for method, several in by_method.items():
            of_seed = {i: adjusted_mutual_info_score(labels[rows], several[i].topic[rows]) for i in set(seeds.tolist())}
            ami[method] = float(np.mean([of_seed[i] for i in seeds]))
            of_seed = {i: np.mean([_npmi(c, times) for c in columns[method][i]]) for i in set(seeds.tolist())}
            npmi[method] = float(np.mean([of_seed[i] for i in seeds]))
        drawn["AMI"].append(ami)
        drawn["NPMI"].append(npmi)
    return {
        score: {
            method: _interval(
                [o.scores[score] - t.scores[score] for o, t in zip(by_method[ours], theirs, strict=True)],
                [resample[ours] - resample[method] for resample in resamples],
            )
            for method, theirs in by_method.items()
            if method != ours
        }
        for score, resamples in drawn.items()
    }


def _interval(measured: list[float], resampled: list[float]) -> dict[str, float]:
    """Centred on what was measured: a resample lacks a third of the documents, and with them pairs of rare words."""
    mean = float(np.mean(measured))
    low, high = mean + np.quantile(np.array(resampled) - np.mean(resampled), [0.025, 0.975])
    return {"mean": mean, "low": float(low), "high": float(high)}
