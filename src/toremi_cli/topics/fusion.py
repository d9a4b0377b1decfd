"""The integration: one topic model out of Top2Vec (vectors) and LDA (words), in which topic k means the same to both.

1. First cuts in the vector space: the dense areas that Top2Vec finds, and k-means at the same number of topics.
2. Alternation: a topic has a centre and smoothed word frequencies; every sample is given to topics anew by the sum of
   both views' log-likelihoods and the topic's share. The cut that ends with the highest joint likelihood is kept.
3. Topics that die out make room for rare kinds: from SPARE times as many, the closest are merged, the widest split.
4. LDA is fitted with `eta` = the word counts of the samples so assigned, so that it knows what topic k is about.
5. A sample's distribution is a mean of the joint posterior (one topic a sample) and LDA's mixture (many).

Word likelihoods are divided by the square root of a sample's length, as its words are not independent; cosines are
scaled to a common mean margin, whatever backend they come from. docs/annotation.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from toremi_cli.topics.hierarchy import merge_cheapest, merge_closest
from toremi_cli.topics.kmeans import STARTS, fit_kmeans, nearest, similarities
from toremi_cli.topics.lda import Lda, fit_lda
from toremi_cli.topics.reproduction import Half, merge_unreproduced
from toremi_cli.topics.top2vec_model import DenseAreas
from toremi_cli.topics.vectors.bags import Vocabulary, normalize_rows

ROUNDS = 15
SMOOTHING = 2000.0
"""Words of the corpus' mean distribution that are added to each topic's."""
MARGIN = 2.0
"""Mean log-likelihood ratio of a sample's topic against the others that the vector view is scaled to."""
MOST_SHARPNESS = 100.0
LDA_PRIOR = 0.01
"""Weight in `eta` of a word that no sample of the topic holds."""
LEAST_SHARE = 0.3
"""A topic's prior is at least this part of an equal share, so that small topics don't vanish."""
SPARE, SPARE_ROUNDS = 2, 8
"""Where topics die out: how many times the topics wanted to start from, and turns before the dead are dropped."""
LEAST_PROBABILITY = 1e-300
"""Floor of what a logarithm is taken of."""
FEWEST_SAMPLES = 5
"""A topic of fewer samples is dead (of few samples: of fewer than a quarter of an equal share)."""
POSTERIOR_SHARE = 2 / 3
"""Of a sample's distribution; the rest is LDA's mixture."""


@dataclass(frozen=True)
class Views:
    """What the two views know of each topic, or of each part of one where topics were rolled up.

    `centres` (num_parts, dim); `word_scores` (num_words, num_parts): log of a word's frequency in the part over its
    frequency in the corpus; `log_share` (num_parts,); `sharpness` scales cosines to log-likelihoods. `confidence`
    holds a factor for the scores of the words and of the vectors, by which each view alone says how sure it is.
    `topic_of_part` (num_parts,): None where every topic has one part. A topic of several parts is a mixture of them:
    one centre for all would lie where none of its samples are.
    """

    centres: np.ndarray
    word_scores: np.ndarray
    log_share: np.ndarray
    sharpness: float
    confidence: tuple[float, float] = (1.0, 1.0)
    topic_of_part: np.ndarray | None = None

    def by_topic(self, probs: np.ndarray) -> np.ndarray:
        """(num_samples, num_topics) from probabilities of parts (num_samples, num_parts): their sums."""
        if self.topic_of_part is None:
            return probs
        order = np.argsort(self.topic_of_part, kind="stable")
        first_part = np.searchsorted(self.topic_of_part[order], np.arange(self.topic_of_part.max() + 1))
        return np.asarray(np.add.reduceat(probs[:, order], first_part, axis=1))

    def scores(self, bags: sp.csr_matrix, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-likelihoods (num_samples, num_parts) of the word view and of the vector view, up to a constant a row."""
        length = np.asarray(bags.sum(axis=1))
        by_words = (bags @ self.word_scores) / np.sqrt(np.maximum(length, 1.0))
        return by_words, self.sharpness * similarities(vectors, self.centres)

    def joint(self, by_words: np.ndarray, by_vectors: np.ndarray) -> np.ndarray:
        """(num_samples, num_parts) unnormalised log of the joint posterior."""
        return by_words + by_vectors + self.log_share

    def agreement(self, by_words: np.ndarray, by_vectors: np.ndarray) -> np.ndarray:
        """(num_samples,) probability, 0 to 1, that the views name the same topic when each is asked by itself."""
        words, vectors = self.confidence
        named = softmax(words * by_words + self.log_share), softmax(vectors * by_vectors)
        return np.einsum("nk,nk->n", *map(self.by_topic, named))

    def calibrated(self, by_words: np.ndarray, by_vectors: np.ndarray) -> Views:
        """The same views, each as sure of itself as it is right about the joint posterior (temperature scaling).

        The joint weighs the views against each other, and a topic among many needs a larger lead than one of two;
        by itself a view would therefore look unsure where both agree (Guo et al. 2017, arXiv 1706.04599).
        """
        joint = softmax(self.joint(by_words, by_vectors))
        words = self._confidence(by_words, self.log_share, joint)
        return replace(self, confidence=(words, self._confidence(by_vectors, 0.0, joint)))

    def _confidence(self, scores: np.ndarray, prior: np.ndarray | float, joint: np.ndarray) -> float:
        """The factor for `scores` under which what they say of topics predicts `joint` best (both of parts)."""
        target = self.by_topic(joint)

        def cross_entropy(log_factor: float) -> float:
            probs = self.by_topic(softmax(np.exp(log_factor) * scores + prior))
            return -float(np.einsum("nk,nk->n", target, np.log(np.maximum(probs, LEAST_PROBABILITY))).mean())

        found = minimize_scalar(cross_entropy, bounds=(np.log(0.1), np.log(50.0)), method="bounded")
        return float(np.exp(found.x))

    def parts_of(self, topics: np.ndarray) -> np.ndarray:
        """The parts of some topics."""
        return topics if self.topic_of_part is None else np.flatnonzero(np.isin(self.topic_of_part, topics))

    def keep(self, topics: np.ndarray) -> Views:
        """The views of some topics only, ascending."""
        parts = self.parts_of(topics)
        topic_of_part = self.topic_of_part
        return replace(
            self,
            centres=self.centres[parts],
            word_scores=self.word_scores[:, parts],
            log_share=self.log_share[parts],
            topic_of_part=None if topic_of_part is None else np.searchsorted(topics, topic_of_part[parts]),
        )


@dataclass(frozen=True)
class Fused:
    """The fitted integration."""

    views: Views
    lda: Lda
    posterior: np.ndarray
    """(num_samples, num_topics) of the samples it was fitted on."""
    start: str
    """Which first cut was kept, in words."""


def softmax(scores: np.ndarray) -> np.ndarray:
    """Rows as probabilities."""
    return np.exp(scores - logsumexp(scores, axis=1, keepdims=True))


def dampen(counts: sp.csr_matrix) -> sp.csr_matrix:
    """log(1 + count): the tenth time that a text says a word tells less than the first."""
    bags = counts.copy()
    bags.data = np.log1p(bags.data)
    return bags


def fit_fused(
    counts: sp.csr_matrix,
    vectors: np.ndarray,
    vocabulary: Vocabulary,
    areas: DenseAreas,
    num_topics: int,
    seed: int,
    halves: Sequence[Half] = (),
) -> Fused:
    """Fit both views together.

    Args:
        counts: (num_samples, num_words) words of the samples to fit on.
        vectors: (num_samples, dim) of length 1.
        vocabulary: the words.
        areas: what Top2Vec found, maybe nothing.
        num_topics: how many topics; fewer come out where there are fewer different vectors.
        seed: of k-means and LDA.
        halves: what models of halves of the samples say at this number, to roll up topics which they don't tell apart.
    """
    bags = dampen(counts)
    refined = {
        name: alternate(bags, vectors, nearest(vectors, centres), len(centres))
        for name, centres in first_cuts(vectors, areas, num_topics, seed).items()
    }
    name = likeliest(bags, vectors, {name: views for name, (views, _) in refined.items()})
    posterior = refined[name][1]
    if len(alive(posterior)) < posterior.shape[1]:
        posterior, name = with_spare_topics(bags, vectors, num_topics, seed), "k-means with spare topics"
    posterior = posterior[:, np.argsort(-posterior.sum(axis=0), kind="stable")]  # topic 0 is the largest
    topic_of_part = None
    if halves:
        posterior, topic_of_part = roll_up_unreproduced(posterior, vectors, halves)
    views = replace(views_of(bags, vectors, posterior), topic_of_part=topic_of_part)
    posterior = softmax(views.joint(*views.scores(bags, vectors)))
    lda = fit_lda(counts, vocabulary, views.centres.shape[0], seed, eta=(counts.T @ posterior).T + LDA_PRIOR)
    views = replace(views, word_scores=word_scores(lda.topic_words, counts))
    scores = views.scores(bags, vectors)
    return Fused(views.calibrated(*scores), lda, views.by_topic(softmax(views.joint(*scores))), name)


def likeliest(bags: sp.csr_matrix, vectors: np.ndarray, models: dict[str, Views]) -> str:
    """The model under which a sample's joint log-likelihood is highest on average; of equal ones the first.

    All are judged at one sharpness. A cut that lies badly in the vector space has small margins, which its own
    sharpness makes up for; that factor, being no likelihood, would even put it ahead.
    """
    sharpness = min(views.sharpness for views in models.values())

    def likelihood(views: Views) -> float:
        alike = replace(views, sharpness=sharpness)
        return float(logsumexp(alike.joint(*alike.scores(bags, vectors)), axis=1).mean())

    return max(models, key=lambda name: likelihood(models[name]))


def with_spare_topics(
    bags: sp.csr_matrix, vectors: np.ndarray, num_topics: int, seed: int, starts: int = STARTS, rounds: int = ROUNDS
) -> np.ndarray:
    """Posterior (num_samples, at most num_topics) from a cut into more topics than wanted."""
    centres = fit_kmeans(vectors, SPARE * num_topics, seed, starts)
    _, posterior = alternate(bags, vectors, nearest(vectors, centres), len(centres), min(SPARE_ROUNDS, rounds))
    topic = posterior[:, alive(posterior)].argmax(axis=1)
    members = np.eye(topic.max() + 1)[topic]
    topic = merge_closest(members.T @ vectors.astype(np.float64), num_topics)[topic]
    _, posterior = alternate(bags, vectors, topic, topic.max() + 1, rounds)
    topic = posterior[:, alive(posterior)].argmax(axis=1)
    return np.eye(num_topics)[split_widest(vectors, topic, num_topics, seed)]


def roll_up_unreproduced(
    posterior: np.ndarray, vectors: np.ndarray, halves: Sequence[Half]
) -> tuple[np.ndarray, np.ndarray]:
    """Make parts of one topic out of topics that halves of the samples don't tell apart.

    Returns:
        The posterior (num_samples, num_parts), without parts that are no sample's first; (num_parts,) the topic of
        each. Topics are ranked by their samples, the largest first.
    """
    used, part = np.unique(posterior.argmax(axis=1), return_inverse=True)
    group = merge_unreproduced(part, vectors, len(used), halves)
    rank = np.argsort(np.argsort(-np.bincount(group[part]), kind="stable"))
    return posterior[:, used], rank[group]


def split_widest(vectors: np.ndarray, topic: np.ndarray, num_topics: int, seed: int) -> np.ndarray:
    """Topics (num_samples,) after splitting in two, each time the one whose samples lie widest, up to `num_topics`."""
    topic = topic.copy()
    for new in range(topic.max() + 1, num_topics):
        members = np.eye(new)[topic]
        sizes = members.sum(axis=0)
        width = (sizes - np.linalg.norm(members.T @ vectors.astype(np.float64), axis=1)) / np.maximum(sizes, 1)
        width[sizes <= 2 * FEWEST_SAMPLES] -= 1  # only where no larger topic is left
        rows = np.flatnonzero(topic == width.argmax())
        halves = fit_kmeans(vectors[rows], 2, seed)
        topic[rows[nearest(vectors[rows], halves) == 1]] = new
    return topic


def alive(posterior: np.ndarray) -> np.ndarray:
    """The topics that enough samples have as their first."""
    num_samples, num_topics = posterior.shape
    sizes = np.bincount(posterior.argmax(axis=1), minlength=num_topics)
    return np.flatnonzero(sizes >= max(1.0, min(FEWEST_SAMPLES, num_samples / (4 * num_topics))))


def first_cuts(vectors: np.ndarray, areas: DenseAreas, num_topics: int, seed: int) -> dict[str, np.ndarray]:
    """Centres (num_topics, dim) of the cuts to start from, by name."""
    cuts = {"k-means": fit_kmeans(vectors, num_topics, seed)}
    if len(areas.centres) >= num_topics:
        name = "Top2Vec" if len(areas.centres) == num_topics else "Top2Vec, merged"
        cuts = {name: merge_areas(vectors, areas.centres, num_topics), **cuts}
    return cuts


def merge_areas(vectors: np.ndarray, centres: np.ndarray, num_topics: int) -> np.ndarray:
    """Merge dense areas, each time the two whose samples lose least in cosine to their centre, down to `num_topics`."""
    owner = nearest(vectors, centres)
    sums = np.vstack([vectors[owner == k].sum(axis=0, dtype=np.float64) for k in range(len(centres))])
    group = merge_cheapest(sums, num_topics)
    return normalize_rows(np.vstack([sums[group == k].sum(axis=0) for k in range(num_topics)]))


def alternate(
    bags: sp.csr_matrix, vectors: np.ndarray, topic: np.ndarray, num_topics: int, rounds: int = ROUNDS
) -> tuple[Views, np.ndarray]:
    """Refine a cut by both views in turn.

    Args:
        bags: (num_samples, num_words) dampened counts.
        vectors: (num_samples, dim).
        topic: (num_samples,) the first cut.
        num_topics: topics in it.
        rounds: how many turns.

    Returns:
        The views, and the posterior (num_samples, num_topics).
    """
    posterior = np.eye(num_topics)[topic]
    for _ in range(rounds):
        views = views_of(bags, vectors, posterior)
        posterior = softmax(views.joint(*views.scores(bags, vectors)))
    return views, posterior


def views_of(bags: sp.csr_matrix, vectors: np.ndarray, posterior: np.ndarray) -> Views:
    """What samples with this posterior (num_samples, num_topics) tell the two views of each topic."""
    centres = normalize_rows(np.einsum("nk,nd->kd", posterior, vectors.astype(np.float64), optimize=False))
    cosines = similarities(vectors, centres)
    num_topics = posterior.shape[1]
    own = np.einsum("nk,nk->n", posterior, cosines)
    others = (cosines.sum(axis=1) - own) / max(num_topics - 1, 1)
    margin = float((own - others).mean()) if num_topics > 1 else 1.0
    sharpness = min(MARGIN / max(margin, 1e-9), MOST_SHARPNESS)
    share = np.maximum(posterior.mean(axis=0), LEAST_SHARE / num_topics)
    topic_counts = (bags.T @ posterior).T
    return Views(centres, word_scores(topic_counts, bags), np.log(share / share.sum()), sharpness)


def word_scores(topic_counts: np.ndarray, corpus: sp.csr_matrix) -> np.ndarray:
    """(num_words, num_topics): log of the smoothed frequency of a word in a topic over that in the corpus."""
    of_corpus = np.asarray(corpus.sum(axis=0)).ravel() + 0.5
    of_corpus /= of_corpus.sum()
    smoothed = topic_counts + SMOOTHING * of_corpus
    smoothed /= smoothed.sum(axis=1, keepdims=True)
    return np.ascontiguousarray(np.log(smoothed / of_corpus).T)
