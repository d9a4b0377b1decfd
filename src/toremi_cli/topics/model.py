"""A fitted topic model: what it needs to put any sample into topics, and how it is kept on disk (arrays and JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from toremi_cli.errors import TableError, reason
from toremi_cli.files import atomic_file, find_json, read_json, write_json
from toremi_cli.lm.tokenizer import TextTokenizer
from toremi_cli.schemas import NO_TOPIC
from toremi_cli.topics.fusion import POSTERIOR_SHARE, Views, dampen, softmax
from toremi_cli.topics.kinds import Kinds
from toremi_cli.topics.kmeans import one_thread, similarities
from toremi_cli.topics.lda import Lda
from toremi_cli.topics.sample_view import SampleViews, ViewModel
from toremi_cli.topics.vectors.bags import Vocabulary, word_lists

DESCRIPTION = "model.json"
BATCH = 2048
LONE_SHARPNESS = 20.0
"""Scales cosines to log-probabilities where Top2Vec stands alone."""


@dataclass(frozen=True)
class Placed:
    """Topics of samples: `topic` (num_samples,), NO_TOPIC where the vector tells nothing and no topic is for such;
    `probs` (num_samples, num_pieces) float32; `agreement` (num_samples,) float32, 0 where the vector tells nothing."""

    topic: np.ndarray
    probs: np.ndarray
    agreement: np.ndarray


def known_by(vectors: np.ndarray) -> np.ndarray:
    """(num_samples,) whether a sample's vector tells anything: zeros tell of no word that is known."""
    return np.asarray(vectors.any(axis=1))


@dataclass(frozen=True)
class TopicModel:
    """Topics 0, 1, … and what each view knows of them; a view that the method doesn't have is None.

    `reason` says why there are so many topics. `vocabulary` belongs to the word view. `view` measures what `kinds` cuts
    topics by.
    """

    method: str
    num_topics: int
    reason: str
    vocabulary: Vocabulary
    views: Views | None = None
    lda: Lda | None = None
    centres: np.ndarray | None = None
    view: ViewModel | None = None
    kinds: Kinds | None = None

    @property
    def num_pieces(self) -> int:
        """How many topics there are when those of several kinds of text are cut: those that samples are given."""
        return len(self.kinds.topic) if self.kinds else self.num_topics

    def place(self, texts: Sequence[str], vectors: np.ndarray, views: SampleViews | None) -> Placed:
        """Topics of samples, each by itself, with those cut that are (`views` is needed then)."""
        counts = self._count(texts)
        return self.place_counted(counts, vectors, views)

    def place_counted(self, counts: sp.csr_matrix, vectors: np.ndarray, views: SampleViews | None) -> Placed:
        """`place` for texts whose words are counted already, (num_samples, num_words)."""
        probs, agreement = self.assign_counted(counts, vectors)
        known = settled = known_by(vectors)
        if self.kinds is not None:
            assert views is not None
            probs, settled = self.kinds.divide(probs, known, views)
        topic = np.where(settled, probs.argmax(axis=1), NO_TOPIC)
        return Placed(topic, probs, np.where(known, agreement, 0).astype(np.float32))

    def measure(self, texts: Sequence[str], tokenizer: TextTokenizer) -> SampleViews | None:
        """The view of samples that knows no words; None where the model has none."""
        return self.view.measure(texts, tokenizer) if self.view is not None else None

    def assign(self, texts: Sequence[str], vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distribution over topics and agreement of the views, each sample by itself.

        Args:
            texts: the samples.
            vectors: (num_samples, dim) their vectors, of length 1.

        Returns:
            probs (num_samples, num_topics) float32, rows sum to 1; agreement (num_samples,) float32, 0 to 1: the
            probability that both views, each asked by itself, name the same topic (1 where there is one view only).
        """
        return self.assign_counted(self._count(texts), vectors)

    def assign_counted(self, counts: sp.csr_matrix, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`assign` for texts whose words are counted already, (num_samples, num_words)."""
        num_samples = len(vectors)
        probs = np.zeros((num_samples, self.num_topics), np.float32)
        agreement = np.ones(num_samples, np.float32)
        with one_thread():
            for start in range(0, num_samples, BATCH):
                rows = slice(start, start + BATCH)
                if self.method == "fused":
                    probs[rows], agreement[rows] = self._assign_fused(counts[rows], vectors[rows])
                elif self.method == "lda":
                    assert self.lda is not None
                    probs[rows] = self.lda.infer(counts[rows])
                else:
                    probs[rows] = self._assign_by_centres(vectors[rows])
        return probs, agreement

    def _count(self, texts: Sequence[str]) -> sp.csr_matrix:
        if not len(self.vocabulary):  # no word view: the words don't matter
            return sp.csr_matrix((len(texts), 0))
        return self.vocabulary.count(word_lists(texts))

    def _assign_fused(self, counts: sp.csr_matrix, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self.views is not None and self.lda is not None
        by_words, by_vectors = self.views.scores(dampen(counts), vectors)
        posterior = softmax(self.views.joint(by_words, by_vectors))
        mixture = self.lda.infer(counts, start=posterior)
        probs = self.views.by_topic(POSTERIOR_SHARE * posterior + (1 - POSTERIOR_SHARE) * mixture)
        return probs, self.views.agreement(by_words, by_vectors)

    def _assign_by_centres(self, vectors: np.ndarray) -> np.ndarray:
        assert self.centres is not None
        cosines = similarities(vectors, self.centres)
        if self.method == "kmeans":  # the paper's clusters are hard
            return _one_hot(cosines)
        return softmax(LONE_SHARPNESS * cosines)

    def keep(self, topics: np.ndarray) -> TopicModel:
        """The same model with some of its topics only, ascending, numbered anew."""
        parts = self.views.parts_of(topics) if self.views else topics
        return replace(
            self,
            num_topics=len(topics),
            views=self.views and self.views.keep(topics),
            lda=self.lda and Lda(self.lda.topic_words[parts], self.lda.alpha[parts]),
            centres=None if self.centres is None else self.centres[topics],
        )

    def save(self, folder: Path, fingerprint: str) -> None:
        """Write the model; `fingerprint` tells which settings and tables it was fitted with."""
        for name, array in self._arrays().items():
            with atomic_file(folder / f"{name}.npy") as path, path.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        if self.view is not None:
            self.view.save(folder)
        description = {
            "view": self.view is not None,
            "kinds": self.kinds and self.kinds.names(),
            "method": self.method,
            "num_topics": self.num_topics,
            "reason": self.reason,
            "vocabulary": self.vocabulary.words,
            "sharpness": self.views.sharpness if self.views else None,
            "confidence": self.views.confidence if self.views else None,
            "arrays": sorted(self._arrays()),
            "fingerprint": fingerprint,
        }
        write_json(folder / DESCRIPTION, description)

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        if self.views is not None:
            arrays |= {"view_centres": self.views.centres, "word_scores": self.views.word_scores}
            arrays |= {"log_share": self.views.log_share}
            if self.views.topic_of_part is not None:
                arrays["topic_of_part"] = self.views.topic_of_part
        if self.lda is not None:
            arrays |= {"lda_topic_words": self.lda.topic_words, "lda_alpha": self.lda.alpha}
        if self.centres is not None:
            arrays["centres"] = self.centres
        if self.kinds is not None:
            arrays |= self.kinds.arrays()
        return arrays


def load_model(folder: Path) -> TopicModel:
    """Read what `TopicModel.save` wrote.

    Raises:
        TableError: a file is missing or damaged.
    """
    try:
        description = read_json(folder / DESCRIPTION)
        found = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in description["arrays"]}
        views = lda = None
        if "view_centres" in found:
            words, by_vectors = description["confidence"]
            arrays = found["view_centres"], found["word_scores"], found["log_share"]
            views = Views(*arrays, description["sharpness"], (words, by_vectors), found.get("topic_of_part"))
        if "lda_alpha" in found:
            lda = Lda(found["lda_topic_words"], found["lda_alpha"])
        return TopicModel(
            description["method"], description["num_topics"], description["reason"],
            Vocabulary(description["vocabulary"]), views, lda, found.get("centres"),
            ViewModel.load(folder) if description["view"] else None,
            Kinds.of(description["kinds"], found) if description["kinds"] else None,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise TableError(f"{folder}: no whole topic model ({reason(problem)}); run `toremi cluster` again") from None


def fingerprint_of(folder: Path) -> str | None:
    """The fingerprint that the model in `folder` was saved with, None where there is none."""
    return (find_json(folder / DESCRIPTION) or {}).get("fingerprint")


def _one_hot(scores: np.ndarray) -> np.ndarray:
    hot = np.zeros_like(scores)
    hot[np.arange(len(scores)), scores.argmax(axis=1)] = 1.0
    return hot
