"""Ways to find topics: ours, and other packages as they come. All take the same texts, and vectors where they can."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from benchmarks.topic_quality.measuring import measured
from benchmarks.topic_quality.scores import Outcome

from toremi_cli.topics.config import ClusterConfig
from toremi_cli.topics.fit import fit_model
from toremi_cli.topics.vectors import make_backend

OURS = ("fused", "kmeans", "top2vec")
"""Methods of `toremi cluster` that look at the vectors."""


def doc2vec(texts: list[str], seed: int) -> np.ndarray:
    """(num_texts, 150): vectors learnt from the texts alone."""
    backend = make_backend("doc2vec", seed=seed)
    backend.fit(texts)
    return backend.encode(texts)


def ours(method: str, number: int | None, texts: list[str], vectors: np.ndarray, seed: int) -> Outcome:
    """A method of `toremi cluster`; with its own number of topics where `number` is None."""
    config = ClusterConfig(method=method, num_topics=number, seed=seed, workers=1)
    fitted, cost = measured(lambda: fit_model(texts, vectors, config))
    probs, agreement = fitted.model.assign(texts, vectors)
    return Outcome(probs.argmax(axis=1), agreement, fitted.keywords, {"K": fitted.model.num_topics, **cost})


def plain_top2vec(texts: list[str], number: int) -> tuple[Outcome, Outcome]:
    """The package with vectors of its own, at its own number and reduced to `number`; it takes no seed."""
    from top2vec import Top2Vec

    logging.getLogger("top2vec").setLevel(logging.ERROR)
    model, cost = measured(lambda: Top2Vec(texts, embedding_model="doc2vec", speed="learn", workers=1, verbose=False))
    own = _outcome(model.doc_top, [list(words) for words in model.topic_words], cost)
    if number >= model.get_num_topics():
        return own, own
    model.hierarchical_topic_reduction(number)
    return own, _outcome(model.doc_top_reduced, [list(words) for words in model.topic_words_reduced], cost)


def bertopic(texts: list[str], vectors: np.ndarray, number: int, seed: int) -> dict[str, tuple[Outcome, Outcome]]:
    """BERTopic at its own number and reduced to `number`: as it comes, and each outlier in its nearest topic.

    As it comes, outliers are one topic more. Its settings are the default, but for the seed of UMAP.
    """
    from bertopic import BERTopic
    from umap import UMAP

    layout = UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=seed, n_jobs=1)
    model = BERTopic(umap_model=layout)
    _, fit = measured(lambda: model.fit_transform(texts, vectors))
    own = _bertopic_outcomes(model, texts, vectors, fit)
    _, reduction = measured(lambda: model.reduce_topics(texts, nr_topics=number + model._outliers))
    cost = {"seconds": fit["seconds"] + reduction["seconds"], "MB": max(fit["MB"], reduction["MB"])}
    equal = _bertopic_outcomes(model, texts, vectors, cost)
    names = ("BERTopic", "BERTopic, no outliers")
    return {name: (first, second) for name, first, second in zip(names, own, equal, strict=True)}


def _bertopic_outcomes(model: Any, texts: list[str], vectors: np.ndarray, cost: dict[str, float]) -> list[Outcome]:
    words = [[word for word, _ in topic] for name, topic in model.get_topics().items() if name >= 0]
    topics = model.topics_
    if -1 in topics:
        topics = model.reduce_outliers(texts, topics, strategy="embeddings", embeddings=vectors)
    return [_outcome(model.topics_, words, cost), _outcome(topics, words, cost)]


def _outcome(topic: Sequence[int], words: list[list[str]], cost: dict[str, float]) -> Outcome:
    return Outcome(np.array(topic), np.ones(len(topic)), words, {"K": len(words), **cost})
