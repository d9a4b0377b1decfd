"""Vectors learnt from the corpus: gensim's Doc2Vec for the words, latent semantic analysis beside it.

Doc2Vec (PV-DBOW with words trained along, as Top2Vec does) puts words and documents into one space. A text's vector is
not inferred by gradient steps, as gensim does (slow, and dependent on the order of calls and on PYTHONHASHSEED), but
in closed form: the TF-IDF weighted mean of its words' vectors, less the corpus' mean (Arora et al. 2017, "A simple but
tough-to-beat baseline for sentence embeddings"). Half of each vector's length comes from the same bag of words
projected on the corpus' leading singular vectors (LSA), which small corpora pin down better than a neural model.
docs/annotation.md has the measurements. Every step is linear in the words or a scaling of a row, so that words are
documents of one word, and a vector depends on no other text in the batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from toremi_cli import console
from toremi_cli.errors import CorpusError, TableError
from toremi_cli.files import atomic_file, write_json
from toremi_cli.topics.kmeans import one_thread
from toremi_cli.topics.vectors.bags import Vocabulary, min_documents_for, normalize_rows, tfidf, word_lists
from toremi_cli.topics.vectors.base import DESCRIPTION

MAX_WORDS = 50_000
"""Bound of the vocabulary: 30 MB of vectors at 150 dimensions."""
LATENT_SHARE = 1 / 3
"""Share of the dimensions that LSA gets."""
WINDOW = 5
TRAINING_WORDS = 6_000_000
"""Words to pass over in training, all epochs together, about: few words are passed over up to MAX_EPOCHS times, and of
more words than this, documents with so many are drawn."""
MAX_EPOCHS = 30
BATCH = 4096


class Doc2VecBackend:
    """The corpus' own vectors; see the module's text."""

    name = "doc2vec"
    needs_fit = True

    def __init__(self, dim: int, seed: int) -> None:
        self.dim, self.seed = dim, seed
        self.vocabulary = Vocabulary([])
        self.inverse_frequency = np.zeros(0)  # (num_words,)
        self.words = np.zeros((0, 0))  # (num_words, num_doc2vec) float32
        self.latent = np.zeros((0, 0))  # (num_words, num_latent) float32
        self.mean = np.zeros(0)  # (num_doc2vec,) mean of the documents in the doc2vec part

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the vocabulary and the words' vectors.

        Raises:
            CorpusError: no text holds a word.
        """
        documents = word_lists(texts)
        self.vocabulary = Vocabulary.learn(documents, MAX_WORDS, min_documents_for(len(documents)))
        if not len(self.vocabulary):
            raise CorpusError(
                f"no words to learn vectors from in {len(documents):,} samples; expected written text with spaces, "
                "or a model of its own vectors (--vector-model)"
            )
        counts = self.vocabulary.count(documents)
        frequency = np.bincount(counts.indices, minlength=len(self.vocabulary))
        self.inverse_frequency = np.log((1 + counts.shape[0]) / (1 + frequency)) + 0.1
        bags = tfidf(counts, self.inverse_frequency)
        num_latent = round(self.dim * LATENT_SHARE)
        self.latent = leading_directions(bags, num_latent, self.seed)
        self.words = self._train(documents, self.dim - num_latent)
        self.mean = np.zeros(self.words.shape[1])
        self.mean = self._doc2vec_part(bags).mean(axis=0)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(num_texts, dim) float32 of length 1; zero where a text holds no known word."""
        batches = [
            self._encode_counts(self.vocabulary.count(word_lists(texts[start : start + BATCH])))
            for start in range(0, len(texts), BATCH)
        ]
        return np.concatenate(batches) if batches else np.zeros((0, self.dim), np.float32)

    def encode_words(self) -> np.ndarray:
        """(num_words, dim) float32: the words of `vocabulary` in the space of the documents."""
        return self._encode_counts(sp.identity(len(self.vocabulary), format="csr"))

    def save(self, folder: Path) -> None:
        """Write `backend.json`, the arrays and the vocabulary to `folder`."""
        for name in ("inverse_frequency", "words", "latent", "mean"):
            with atomic_file(folder / f"{name}.npy") as path, path.open("wb") as file:
                np.save(file, getattr(self, name), allow_pickle=False)
        description = {"backend": self.name, "dim": self.dim, "seed": self.seed, "vocabulary": self.vocabulary.words}
        write_json(folder / DESCRIPTION, description)

    @classmethod
    def load(cls, folder: Path, description: dict[str, Any]) -> Doc2VecBackend:
        """Read what `save` wrote.

        Raises:
            TableError: a file is missing or damaged.
        """
        backend = cls(dim=description["dim"], seed=description["seed"])
        backend.vocabulary = Vocabulary(description["vocabulary"])
        for name in ("inverse_frequency", "words", "latent", "mean"):
            path = folder / f"{name}.npy"
            try:
                setattr(backend, name, np.load(path, allow_pickle=False))
            except (OSError, ValueError) as problem:
                raise TableError(f"{path}: cannot be read ({problem}); run `toremi embed` again") from None
        return backend

    def _encode_counts(self, counts: sp.csr_matrix) -> np.ndarray:
        # A sparse row times a dense matrix is summed row by row: no bit depends on the other rows.
        bags = tfidf(counts, self.inverse_frequency)
        both = np.hstack([self._doc2vec_part(bags), normalize_rows(bags @ self.latent)])
        return normalize_rows(both).astype(np.float32)

    def _doc2vec_part(self, bags: sp.csr_matrix) -> np.ndarray:
        known = np.diff(bags.indptr) > 0
        return normalize_rows(normalize_rows(bags @ self.words) - self.mean * known[:, None])

    def _train(self, documents: Sequence[Sequence[str]], dim: int) -> np.ndarray:
        from gensim.models.doc2vec import Doc2Vec, TaggedDocument

        if len(self.vocabulary) == 1:  # no tree for the hierarchical softmax: gensim's worker dies and train() waits
            return normalize_rows(np.ones((1, dim))).astype(np.float32)
        index = self.vocabulary.index
        known = _bounded([[word for word in words if word in index] for words in documents], self.seed)
        corpus = [TaggedDocument(words, [number]) for number, words in enumerate(known)]
        epochs = int(np.clip(round(TRAINING_WORDS / max(sum(map(len, known)), 1)), 1, MAX_EPOCHS))
        # One thread: gensim's write to the same vectors without a lock, so that with more their timing decides.
        model = Doc2Vec(
            dm=0, dbow_words=1, hs=1, negative=0, vector_size=dim, window=WINDOW, min_count=1, sample=1e-4,
            epochs=epochs, workers=1, seed=self.seed + 1, hashfxn=_stable_hash,
        )  # fmt: skip
        model.build_vocab(corpus)
        with console.progress("learning vectors (doc2vec)", epochs, "epochs") as bar:
            model.train(corpus, total_examples=len(corpus), epochs=epochs, callbacks=[_EpochCounter(bar)])
        vectors = np.zeros((len(self.vocabulary), dim))
        for word, position in model.wv.key_to_index.items():
            vectors[index[word]] = model.wv.vectors[position]
        return normalize_rows(vectors).astype(np.float32)


def leading_directions(bags: sp.csr_matrix, count: int, seed: int) -> np.ndarray:
    """(num_words, count) float32: the right singular vectors of largest singular values, zero where there are fewer."""
    from sklearn.utils.extmath import randomized_svd

    directions = np.zeros((bags.shape[1], count), np.float32)
    rank = min(count, *bags.shape)
    if rank:
        with one_thread():  # another number of threads sums in another order
            _, strength, right = randomized_svd(bags, rank, n_iter=7, random_state=seed)
        directions[:, :rank] = right.T * (strength > 1e-9)
    return directions


def _bounded(documents: list[list[str]], seed: int) -> list[list[str]]:
    """The documents if they have at most TRAINING_WORDS words together, else a random part of them in their order."""
    order = np.random.default_rng(seed).permutation(len(documents))
    words_before = np.cumsum([0, *(len(documents[number]) for number in order[:-1])])
    return [documents[number] for number in np.sort(order[words_before < TRAINING_WORDS])]


def _stable_hash(text: str) -> int:
    """A hash that does not depend on PYTHONHASHSEED."""
    return zlib.crc32(text.encode())


class _EpochCounter:
    """gensim callback that moves a progress bar."""

    def __init__(self, bar: console.ProgressReporter) -> None:
        self.bar = bar

    def on_epoch_end(self, model: Any) -> None:
        self.bar.advance()

    def on_epoch_begin(self, model: Any) -> None:
        pass

    def on_train_begin(self, model: Any) -> None:
        pass

    def on_train_end(self, model: Any) -> None:
        pass
