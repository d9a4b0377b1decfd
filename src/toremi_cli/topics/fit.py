"""Fits the topic model that the settings ask for, on a bounded sample of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from toremi_cli import console
from toremi_cli.engine import default_workers
from toremi_cli.lm.tokenizer import TextTokenizer
from toremi_cli.schemas import NO_TOPIC
from toremi_cli.topics.config import DEFAULT_LDA_TOPICS, PAPER_NUM_CLUSTERS, ClusterConfig
from toremi_cli.topics.fusion import dampen, fit_fused, merge_areas
from toremi_cli.topics.hierarchy import Level, crowding, roll_up, topic_sums
from toremi_cli.topics.keywords import class_tfidf
from toremi_cli.topics.kinds import UNKNOWN, find_kinds
from toremi_cli.topics.kmeans import fit_kmeans, nearest, one_thread
from toremi_cli.topics.lda import fit_lda, learn_vocabulary
from toremi_cli.topics.model import TopicModel, known_by
from toremi_cli.topics.number import ladder, most_topics, reproducible_number
from toremi_cli.topics.reproduction import Half
from toremi_cli.topics.sample_view import SampleViews, ViewModel
from toremi_cli.topics.top2vec_model import DenseAreas, find_dense_areas
from toremi_cli.topics.vectors.bags import Vocabulary, normalize_rows, presence, word_lists

SAMPLES_PER_CLUSTER = 5
"""The paper's number of clusters is brought down to leave so many samples in each."""
NUM_KEYWORDS = 150
"""Keywords kept for each topic: the paper's number."""


@dataclass(frozen=True)
class Fitted:
    """A topic model with its `keywords` (strongest first, by topic), the coarser `levels` above its topics, and how
    crowded each is among the others, (num_topics,)."""

    model: TopicModel
    keywords: list[list[str]]
    levels: list[Level]
    crowding: np.ndarray


def fit_model(
    texts: Sequence[str], vectors: np.ndarray, config: ClusterConfig, tokenizer: TextTokenizer | None = None
) -> Fitted:
    """Fit a topic model.

    Samples without a known word, whose vectors are zero, take no part, unless they are all.

    Args:
        texts: the samples to fit on, at least one.
        vectors: (num_samples, dim) float32 of length 1.
        config: method, number of topics, levels, seed.
        tokenizer: the corpus' own, for the view by which topics are cut; None: none is.
    """
    documents = word_lists(texts)
    vocabulary = learn_vocabulary(documents)
    counts = vocabulary.count(documents)
    del documents
    fit = {"fused": _fit_fused, "lda": _fit_lda, "top2vec": _fit_top2vec, "kmeans": _fit_kmeans}[config.method]
    with one_thread():
        known = known_by(vectors)
        rows = known if known.any() else np.full(len(texts), True)
        model = fit(counts[rows], vectors[rows], vocabulary, config)
        model, topic = _without_empty_topics(model, counts[rows], vectors[rows])
        views = None
        if tokenizer is not None:
            with console.progress("measuring kinds of text") as bar:
                model = replace(model, view=ViewModel.fit(texts, tokenizer))
                views = model.measure(texts, tokenizer)
                bar.advance(len(texts))
        if views is not None and config.cut_kinds and config.method == "fused":
            base = np.full(len(texts), UNKNOWN)
            base[rows] = topic
            model = _cut(model, base, views, config)
        placed = model.place_counted(counts, vectors, views)
        taken = placed.topic != NO_TOPIC if known.any() else rows
        topic, agreement = placed.probs[taken].argmax(axis=1), placed.agreement[taken]
        return _described(model, topic, agreement, counts[taken], vectors[taken], vocabulary, config.levels)


def _cut(model: TopicModel, topic: np.ndarray, views: SampleViews, config: ClusterConfig) -> TopicModel:
    """The model with its topics cut by kind of text, where any are; `topic` (num_samples,) before that."""
    kinds = find_kinds(topic, views, model.num_topics, config.min_topic_samples, config.seed)
    if kinds is None:
        return model
    more = len(kinds.topic) - model.num_topics
    how = f"{more} more cut off for their kind of text (--no-cut-kinds leaves them)"
    return replace(model, kinds=kinds, reason=f"{model.reason}; {how}")


def _described(
    model: TopicModel,
    topic: np.ndarray,
    agreement: np.ndarray,
    counts: sp.csr_matrix,
    vectors: np.ndarray,
    vocabulary: Vocabulary,
    levels: int,
) -> Fitted:
    """The model with what the samples that have a topic, (num_samples,), tell of the topics."""
    number = model.num_pieces
    above = roll_up(topic, vectors, presence(counts), vocabulary, number, levels)
    crowded = crowding(topic_sums(topic, vectors, number))
    return Fitted(model, _keywords(topic, agreement, number, counts, vectors, vocabulary), above, crowded)


def _without_empty_topics(
    model: TopicModel, counts: sp.csr_matrix, vectors: np.ndarray
) -> tuple[TopicModel, np.ndarray]:
    """The model without topics that are no sample's first, and each sample's topic, (num_samples,)."""
    wanted = model.num_topics
    probs, _ = model.assign_counted(counts, vectors)
    while len(found := np.unique(probs.argmax(axis=1))) < model.num_topics:
        model = model.keep(found)
        probs, _ = model.assign_counted(counts, vectors)
    if model.num_topics < wanted:
        left_out = wanted - model.num_topics
        reason = f"{model.reason}; without {left_out} of {wanted} that {'is' if left_out == 1 else 'are'} no sample's"
        model = replace(model, reason=reason)
    return model, probs.argmax(axis=1)


def _fit_fused(counts: sp.csr_matrix, vectors: np.ndarray, vocabulary: Vocabulary, config: ClusterConfig) -> TopicModel:
    areas = _dense_areas(vectors, config)
    num_topics, reason = _choose_number(areas, vectors, config)
    most = most_topics(len(vectors), len(areas.centres), config.min_topic_samples)
    halves: list[Half] = []
    if config.num_topics is None and most >= 2:
        numbers = ladder(most, len(areas.centres))
        chosen = reproducible_number(dampen(counts), vectors, numbers, config.seed, config.workers or default_workers())
        num_topics, halves = chosen.number, chosen.halves
        where = ", where topics die out," if halves else ""
        how = (
            f"the largest of {chosen.compared[0]} to {chosen.compared[-1]}{where} among those best reproduced by halves"
        )
        reason = f"{how} of the samples, within one standard error (AMI {chosen.agreement:.2f}); {_found(areas)}"
    with console.progress("refining topics by both views") as bar:
        fused = fit_fused(counts, vectors, vocabulary, areas, num_topics, config.seed, halves)
        bar.advance(len(vectors))
    found = fused.posterior.shape[1]
    reason = f"{reason}; first cut by {fused.start}, refined by both views"
    if halves and found < num_topics:
        reason = f"{reason}; {num_topics} rolled up into {found}, as many as halves tell apart"
    if config.num_topics is None and found < len(areas.centres):
        reason = f"{reason}; --num-topics {len(areas.centres)} for finer ones"
    return TopicModel("fused", found, reason, vocabulary, views=fused.views, lda=fused.lda)


def _dense_areas(vectors: np.ndarray, config: ClusterConfig) -> DenseAreas:
    with console.progress("looking for dense areas") as bar:
        areas = find_dense_areas(vectors, config.min_topic_samples, config.seed)
        bar.advance(len(vectors))
    return areas


def _fit_top2vec(
    counts: sp.csr_matrix, vectors: np.ndarray, vocabulary: Vocabulary, config: ClusterConfig
) -> TopicModel:
    areas = _dense_areas(vectors, config)
    num_topics, reason = _choose_number(areas, vectors, config)
    if len(areas.centres) >= num_topics:
        centres = merge_areas(vectors, areas.centres, num_topics)
    else:
        if len(areas.centres):
            console.warn(
                f"Top2Vec found only {len(areas.centres)} dense areas; k-means makes {num_topics} topics instead",
                even_quiet=True,
            )
        centres = fit_kmeans(vectors, num_topics, config.seed)
    return TopicModel("top2vec", len(centres), reason, Vocabulary([]), centres=_largest_first(vectors, centres))


def _fit_kmeans(
    counts: sp.csr_matrix, vectors: np.ndarray, vocabulary: Vocabulary, config: ClusterConfig
) -> TopicModel:
    wanted = config.num_clusters or config.num_topics
    reason = f"{wanted} asked for"
    if wanted is None:
        wanted = max(1, min(PAPER_NUM_CLUSTERS, len(vectors) // SAMPLES_PER_CLUSTER))
        reason = f"the paper's {PAPER_NUM_CLUSTERS:,} clusters, at least {SAMPLES_PER_CLUSTER} samples to fit on each"
    centres = fit_kmeans(vectors, wanted, config.seed)
    if len(centres) < wanted:
        reason = f"only {len(centres)} different vectors to put into {wanted} clusters"
    return TopicModel("kmeans", len(centres), reason, Vocabulary([]), centres=_largest_first(vectors, centres))


def _fit_lda(counts: sp.csr_matrix, vectors: np.ndarray, vocabulary: Vocabulary, config: ClusterConfig) -> TopicModel:
    wanted = config.num_topics or min(DEFAULT_LDA_TOPICS, _fallback_number(len(vectors)))
    reason = f"{wanted} asked for" if config.num_topics else "LDA finds no number itself; set one with --num-topics"
    lda = fit_lda(counts, vocabulary, wanted, config.seed)
    return TopicModel("lda", wanted, reason, vocabulary, lda=lda)


def _choose_number(areas: DenseAreas, vectors: np.ndarray, config: ClusterConfig) -> tuple[int, str]:
    """How many topics to look for, and why."""
    different = len(np.unique(vectors, axis=0))
    if config.num_topics is not None:
        if config.num_topics > different:
            return different, f"asked for {config.num_topics}, but only {different} samples differ"
        return config.num_topics, f"{config.num_topics} asked for"
    if len(areas.centres):
        return len(areas.centres), f"{_found(areas)} of at least {config.min_topic_samples} samples"
    console.note(f"{areas.reason}; falling back to k-means")
    fallback = min(_fallback_number(len(vectors)), different)
    return fallback, f"{areas.reason}: square root of half the number of samples"


def _found(areas: DenseAreas) -> str:
    return areas.reason or f"Top2Vec found {len(areas.centres)} dense areas"


def _fallback_number(num_samples: int) -> int:
    return max(1, round((num_samples / 2) ** 0.5))


def _largest_first(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    sizes = np.bincount(nearest(vectors, centres), minlength=len(centres))
    return centres[np.argsort(-sizes, kind="stable")]


def _keywords(
    topic: np.ndarray,
    agreement: np.ndarray,
    num_topics: int,
    counts: sp.csr_matrix,
    vectors: np.ndarray,
    vocabulary: Vocabulary,
) -> list[list[str]]:
    """Keywords by both views: typical of the topic's samples, and near to the topic where a word lies in their space.

    A word lies where the samples are that hold it. It counts once a sample, so that a name which one long sample
    repeats is none, and by the square of the sample's agreement: those which both views put there speak for the topic.
    """
    weight = np.maximum(agreement.astype(np.float64) ** 2, 1e-6)  # a topic of unsure samples only has keywords too
    members = sp.csr_matrix((weight, (topic, np.arange(len(topic)))), (num_topics, len(topic)))
    present, vectors = presence(counts), vectors.astype(np.float64)
    places = normalize_rows(members @ vectors), normalize_rows(present.T @ vectors)
    scored = class_tfidf(sp.csr_matrix(members @ present), vocabulary.words, NUM_KEYWORDS, vectors=places)
    return [[word for word, _ in words] for words in scored]
