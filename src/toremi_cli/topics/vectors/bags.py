"""Bags of words: a bounded vocabulary, and texts as sparse rows of counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from toremi_cli.topics.keywords import STOP_WORDS, tokenize


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows, most frequent first."""

    words: list[str]
    index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {word: number for number, word in enumerate(self.words)})

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def learn(
        cls, documents: Iterable[Sequence[str]], max_words: int, min_documents: int, max_share: float = 1.0
    ) -> Vocabulary:
        """The `max_words` words found in the most documents; ties go by the word.

        Words in fewer than `min_documents` documents, in more than `max_share` of them, and stop words are left out.
        """
        in_documents: Counter[str] = Counter()
        num_documents = 0
        for words in documents:
            in_documents.update(set(words))
            num_documents += 1
        most = max(max_share * num_documents, min_documents)
        kept = [w for w, n in in_documents.items() if min_documents <= n <= most and w not in STOP_WORDS]
        kept.sort(key=lambda word: (-in_documents[word], word))
        return cls(kept[:max_words])

    def count(self, documents: Iterable[Sequence[str]]) -> sp.csr_matrix:
        """(num_documents, num_words) float64 counts, columns sorted within a row."""
        columns: list[int] = []
        ends = [0]
        for words in documents:
            columns += [i for i in map(self.index.get, words) if i is not None]
            ends.append(len(columns))
        shape = (len(ends) - 1, len(self.words))
        counts = sp.csr_matrix((np.ones(len(columns)), np.array(columns, dtype=np.int64), np.array(ends)), shape=shape)
        counts.sum_duplicates()  # sorts too
        return counts


def min_documents_for(num_documents: int) -> int:
    """In how many documents a word must stand to be learnt: small corpora cannot afford to lose any."""
    return 1 if num_documents < 30 else 2 if num_documents < 20_000 else 5


def word_lists(texts: Iterable[str]) -> list[list[str]]:
    """The words of each text, stop words left out."""
    return [[word for word in tokenize(text) if word not in STOP_WORDS] for text in texts]


def presence(counts: sp.csr_matrix) -> sp.csr_matrix:
    """1 for each word that a document holds, however often."""
    present = counts.copy()
    present.data = np.ones_like(present.data)
    return present


def normalize_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows of length 1 (L2); zero rows stay zero."""
    length = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))[:, None]
    return matrix / np.where(length > 0, length, 1.0)


def tfidf(counts: sp.csr_matrix, inverse_frequency: np.ndarray) -> sp.csr_matrix:
    """(num_documents, num_words): log(1 + count) * inverse document frequency, rows of length 1."""
    weighted = counts.copy()
    weighted.data = np.log1p(weighted.data) * inverse_frequency[weighted.indices]
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    weighted.data /= np.repeat(np.where(length > 0, length, 1.0), np.diff(weighted.indptr))
    return weighted
