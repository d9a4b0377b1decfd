"""From a topic's keywords to 1 to 3 labels of a taxonomy, without a network: by shared words and, where the vector
model knows words, by nearness in the joint space of words and samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from toremi_cli.topics.taxonomy import Taxonomy

MAPPER_VERSION = 1
"""Rises when the same keywords may get other labels."""
NUM_KEYWORDS = 50
"""Keywords looked at, as many as the paper shows its LLM."""
HALF_EVIDENCE = 0.12
"""Weighted share of keywords that speaks for a label at score 0.5."""
VECTOR_PART = 0.1
"""Evidence that a topic gets for lying in the very direction of a label, where there are word vectors."""
MIN_HITS = 2
"""Keywords that must stand in a label's lexicon, so that no chance word decides."""

WordVectors = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]
"""Words to (vectors (num_words, dim), mask (num_words,) of those that are known)."""


@dataclass(frozen=True)
class TopicLabels:
    """The labels of one topic, best first, with scores from 0 to 1; none where the mapper is unsure."""

    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    source: str = "none"


def map_topics(
    keywords: Sequence[Sequence[str]],
    taxonomy: Taxonomy,
    max_labels: int = 3,
    min_score: float = 0.35,
    closeness: float = 0.75,
    word_vectors: WordVectors | None = None,
) -> list[TopicLabels]:
    """Labels for each topic.

    Args:
        keywords: of each topic, strongest first.
        taxonomy: the labels with their words.
        max_labels: most labels a topic gets.
        min_score: a label below this score is not given.
        closeness: a second and third label need at least this part of the best one's score.
        word_vectors: the vector model's words, None where it has none.
    """
    evidence, hits = word_evidence(keywords, taxonomy)
    if word_vectors is not None:
        evidence = evidence + VECTOR_PART * vector_evidence(keywords, taxonomy, word_vectors)
    evidence = without_common_part(evidence, np.array([label.prior for label in taxonomy.labels]))
    score = evidence / (evidence + HALF_EVIDENCE)  # (num_topics, num_labels)
    # A label with few words cannot be hit often; there one word, or nearness alone, must do.
    needed = np.array([MIN_HITS if len(label.words) > 5 else 0 for label in taxonomy.labels])
    score = np.where(hits >= needed, score, 0.0)
    return [_choose(row, taxonomy, max_labels, min_score, closeness) for row in score]


def _choose(score: np.ndarray, taxonomy: Taxonomy, max_labels: int, min_score: float, closeness: float) -> TopicLabels:
    best = np.argsort(-score, kind="stable")[:max_labels]
    floor = max(min_score, closeness * float(score[best[0]])) if len(best) else 1.0
    chosen = [int(label) for label in best if score[label] >= floor and score[label] > 0]
    if not chosen:
        return TopicLabels()
    names = tuple(taxonomy.labels[label].name for label in chosen)
    return TopicLabels(names, tuple(round(float(score[label]), 4) for label in chosen), "lexicon")


def word_evidence(keywords: Sequence[Sequence[str]], taxonomy: Taxonomy) -> tuple[np.ndarray, np.ndarray]:
    """How much of each topic's keywords stands in each label's lexicon.

    A keyword weighs 1/sqrt(rank), shared equally in square among the labels that hold it, times the label's prior.

    Returns:
        (num_topics, num_labels) evidence from 0 to 1, and the number of keywords found.
    """
    lexicon: dict[str, list[int]] = {}
    for index, label in enumerate(taxonomy.labels):
        for word in dict.fromkeys(singular(word) for word in label.words):
            lexicon.setdefault(word, []).append(index)
    prior = np.array([label.prior for label in taxonomy.labels])
    evidence = np.zeros((len(keywords), len(prior)))
    hits = np.zeros(evidence.shape, dtype=np.int64)
    for topic, words in enumerate(keywords):
        weights = _rank_weights(len(words[:NUM_KEYWORDS]))
        seen: set[str] = set()
        for word, weight in zip(words[:NUM_KEYWORDS], weights, strict=True):
            entry = next((form for form in base_forms(word) if form in lexicon), None)
            if entry is None:
                continue
            labels = lexicon[entry]
            evidence[topic, labels] += weight / np.sqrt(max(prior[labels].sum(), 1.0))
            hits[topic, labels] += entry not in seen
            seen.add(entry)
    return evidence * prior, hits


def vector_evidence(keywords: Sequence[Sequence[str]], taxonomy: Taxonomy, word_vectors: WordVectors) -> np.ndarray:
    """How near each topic's keywords lie to each label's words, from 0 to 1, corrected for hubs.

    Both sides are weighted means of word vectors, from which the mean of all labels is taken; of each cosine the means
    of its row and of its column are taken off, as in CSLS (Conneau et al., "Word translation without parallel data",
    arXiv 1710.04087, section 2.3), so that a label near to everything gains nothing.

    Returns:
        (num_topics, num_labels).
    """
    prior = np.array([label.prior for label in taxonomy.labels])
    labels, label_known = _centres([label.words for label in taxonomy.labels], word_vectors, ranked=False)
    topics, topic_known = _centres([words[:NUM_KEYWORDS] for words in keywords], word_vectors, ranked=True)
    result = np.zeros((len(topics), len(labels)))
    if label_known.sum() < 2 or not topic_known.any():
        return result
    middle = labels[label_known].mean(axis=0)
    cosine = _unit(topics - middle) @ _unit(labels - middle).T  # (num_topics, num_labels)
    known = np.outer(topic_known, label_known)
    cosine = np.where(known, cosine, 0.0)
    of_topic = cosine.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    of_label = cosine.sum(axis=0, keepdims=True) / np.maximum(known.sum(axis=0, keepdims=True), 1)
    corrected = cosine - 0.5 * of_topic - 0.5 * np.maximum(of_label, 0.0)
    return np.where(known, np.clip(corrected, 0.0, 1.0), 0.0) * prior


def without_common_part(evidence: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """`evidence` (num_topics, num_labels) less what a hub label has on the other topics too; never below 0.

    Of a label's mean evidence over the other topics the part 1 - `prior` (num_labels,) is taken off. A label of the
    matter keeps all of it: where nearly all topics are about the economy, Economy is right for nearly all.
    """
    num_topics = len(evidence)
    if num_topics < 2:
        return evidence
    others = (evidence.sum(axis=0, keepdims=True) - evidence) / (num_topics - 1)
    return np.maximum(evidence - (1 - prior) * others, 0.0)


def _rank_weights(count: int) -> np.ndarray:
    """(count,) falling weights that sum to 1."""
    weights = 1.0 / np.sqrt(np.arange(1, count + 1))
    return weights / weights.sum() if count else weights


def _centres(groups: Sequence[Sequence[str]], word_vectors: WordVectors, ranked: bool) -> tuple[np.ndarray, np.ndarray]:
    """(num_groups, dim) weighted means of the groups' word vectors, and which groups had a known word."""
    centres, known = [], []
    for words in groups:
        vectors, mask = word_vectors(list(words))
        weights = (_rank_weights(len(words)) if ranked else np.ones(len(words))) * mask
        centres.append(weights @ _unit(vectors) if len(words) else np.zeros(vectors.shape[1]))
        known.append(bool(weights.sum() > 0))
    return _unit(np.array(centres)), np.array(known)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norm > 0, norm, 1.0))


def singular(word: str) -> str:
    """The word without a plural's ending, by Harman's S-stemmer ("How effective is suffixing?", JASIS 42, 1991)."""
    if len(word) > 4 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("us", "ss", "is", "as", "os")):
        return word[:-1]
    return word


def base_forms(word: str) -> list[str]:
    """The forms under which a lexicon may hold `word`: itself, without plural, without -ing, -ed, -er, -ly."""
    forms = [singular(word)]
    for ending in ("ing", "ed", "er", "ers", "ly"):
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < 3:
            continue
        forms += [stem, stem + "e"]
        if stem[-1] == stem[-2]:
            forms.append(stem[:-1])
    return list(dict.fromkeys(forms))
