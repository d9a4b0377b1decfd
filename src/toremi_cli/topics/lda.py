"""The word view: LDA fitted by gensim, inference of many texts at once by us.

gensim's own inference starts at random (its result depends on what was inferred before) and goes text by text. Ours
runs the same variational updates (Hoffman, Blei & Bach 2010, algorithm 2, E step) a fixed number of times from a fixed
start, for a batch of sparse rows at once; a text's result depends on no other text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.special import psi

from toremi_cli.topics.vectors.bags import Vocabulary, min_documents_for

MAX_WORDS = 20_000
"""Bound of the word view's vocabulary: with 200 topics, 32 MB of float64."""
MAX_SHARE = 0.5
"""A word in more than this share of the samples tells no topic from another."""
ITERATIONS, ITERATIONS_WITH_START = 40, 10
"""Updates of a text's mixture, from nothing and from a first guess."""
CHUNK_WORDS = 20_000
"""(text, word) pairs that inference handles at once; bounds its memory to this times the number of topics."""


def learn_vocabulary(documents: Sequence[Sequence[str]]) -> Vocabulary:
    """The words of the word view: in enough samples to be learnt, in few enough to tell topics apart."""
    small = min_documents_for(len(documents))
    words = Vocabulary.learn(documents, MAX_WORDS, small, MAX_SHARE if len(documents) >= 30 else 1.0)
    return words if len(words) else Vocabulary.learn(documents, MAX_WORDS, 1)


@dataclass(frozen=True)
class Lda:
    """A fitted model: `topic_words` (num_topics, num_words) are LDA's lambda, `alpha` (num_topics,) the prior."""

    topic_words: np.ndarray
    alpha: np.ndarray
    _word_weights: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        weights = np.ascontiguousarray(_exp_expected_log(self.topic_words).T)  # (num_words, num_topics)
        object.__setattr__(self, "_word_weights", weights)

    def infer(self, counts: sp.csr_matrix, start: np.ndarray | None = None) -> np.ndarray:
        """(num_texts, num_topics) float64: each text's mixture of topics; the prior where it has no known word.

        `start` (num_texts, num_topics) is a first guess of the mixtures; None: all topics alike.
        """
        guess = np.full((counts.shape[0], len(self.alpha)), 1 / len(self.alpha)) if start is None else start
        gamma = np.zeros_like(guess)
        iterations = ITERATIONS if start is None else ITERATIONS_WITH_START
        for rows in _chunks(counts):
            gamma[rows] = self._infer_chunk(counts[rows], guess[rows], iterations)
        return gamma / gamma.sum(axis=1, keepdims=True)

    def _infer_chunk(self, counts: sp.csr_matrix, guess: np.ndarray, iterations: int) -> np.ndarray:
        per_pair = self._word_weights[counts.indices]  # (num_pairs, num_topics)
        text_of_pair = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        length = np.asarray(counts.sum(axis=1))  # (num_texts, 1)
        gamma = self.alpha + length * guess
        num_pairs = len(text_of_pair)
        sum_of_pairs = sp.csr_matrix(
            (np.ones(num_pairs), np.arange(num_pairs), counts.indptr), shape=(counts.shape[0], num_pairs)
        )
        for _ in range(iterations):
            theta = _exp_expected_log(gamma)
            norm = np.einsum("ij,ij->i", theta[text_of_pair], per_pair) + 1e-100
            gamma = self.alpha + theta * (sum_of_pairs @ (per_pair * (counts.data / norm)[:, None]))
        return gamma


def fit_lda(
    counts: sp.csr_matrix, vocabulary: Vocabulary, num_topics: int, seed: int, eta: np.ndarray | None = None
) -> Lda:
    """Fit LDA by gensim's `LdaModel`, which is reproducible.

    Args:
        counts: (num_texts, num_words).
        vocabulary: the words, one for each column.
        num_topics: how many topics.
        seed: of the start.
        eta: (num_topics, num_words) prior of each topic's words; it seeds what topic k is about. None: no such seed.
    """
    from gensim.models.ldamodel import LdaModel

    if not counts.shape[1]:  # no word to tell topics by, and gensim refuses: every text's mixture is the prior
        return Lda(np.zeros((num_topics, 0)), np.full(num_topics, 1 / num_topics))
    corpus = [
        list(zip(row.indices.tolist(), row.data.tolist(), strict=True))
        for row in (counts[i] for i in range(counts.shape[0]))
    ]
    fewest, most = (4, 20) if eta is None else (1, 6)
    passes = int(np.clip(40_000 // max(len(corpus), 1), fewest, most))
    updates_per_pass = 5 if eta is None else 1  # from a random start, so few updates don't get anywhere
    chunk = int(np.clip(len(corpus) // updates_per_pass, 100, 2000))
    model = LdaModel(
        corpus, num_topics=num_topics, id2word=dict(enumerate(vocabulary.words)), passes=passes, iterations=50,
        chunksize=chunk, alpha="symmetric" if num_topics > 1 else [1.0], eta=eta, random_state=seed, eval_every=None,
        minimum_probability=0.0, dtype=np.float64,
    )  # fmt: skip
    return Lda(np.asarray(model.state.get_lambda(), dtype=np.float64), np.asarray(model.alpha, dtype=np.float64))


def _exp_expected_log(parameters: np.ndarray) -> np.ndarray:
    """exp(E[log x]) for rows that are parameters of Dirichlet distributions."""
    return np.exp(psi(parameters) - psi(parameters.sum(axis=1, keepdims=True)))


def _chunks(counts: sp.csr_matrix) -> list[slice]:
    """Runs of rows with about CHUNK_WORDS stored entries each."""
    cuts = np.unique(np.searchsorted(counts.indptr, np.arange(0, counts.nnz + CHUNK_WORDS, CHUNK_WORDS)))
    cuts = np.unique(np.clip(np.concatenate([[0], cuts, [counts.shape[0]]]), 0, counts.shape[0]))
    return [slice(int(a), int(b)) for a, b in pairwise(cuts)]
