"""The topics of all rows of a map-style data set: what a policy has to know before the first step, and draws need.

Rows carry `labels` and their topics as `hf_batch` describes; as lists, arrays or tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from toremi_cli.integrations.hf_batch import IGNORED
from toremi_cli.reweight import PolicyData
from toremi_cli.train.index import TopicPairs, topic_sizes
from toremi_cli.train.tokens import stretches
from toremi_cli.train.topic_costs import count_costs


@dataclass(frozen=True)
class RowTopics:
    """The topics of rows, and of the samples in them."""

    rows: TopicPairs
    """Of each row; the probability of a topic in a packed row is its part of the row's tokens."""
    samples: TopicPairs
    """Of each sample: the rows themselves, unless they are packed."""
    tokens: np.ndarray
    """(num_tokens,) int32: labels of one sample after another."""
    lengths: np.ndarray
    """(num_samples,) int64: tokens of each."""
    is_soft: bool
    """Whether rows are mixtures of topics, rather than of a set of them."""
    fingerprint: str
    """Changes with any row's topics or tokens."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Names of the topics."""
        return tuple(self.rows.names)

    @property
    def num_rows(self) -> int:
        """Rows of the data set."""
        return len(self.rows.indptr) - 1

    def policy_data(self, crowding: Sequence[float] | None = None) -> PolicyData:
        """Sizes of the topics in samples, and what their tokens cost under n-grams: for `make_policy`.

        Args:
            crowding: how many topics there are of each topic's kind, where that is known.
        """
        every, offset = np.arange(len(self.lengths)), np.cumsum(self.lengths) - self.lengths
        read = partial(stretches, self.tokens)
        ngram, unigram = count_costs(read, offset, self.lengths, self.samples, every).tolist()
        sizes = topic_sizes(self.samples, self.lengths)[0].tolist()
        return PolicyData(sizes=sizes, crowding=crowding, ngram_loss=ngram, unigram_loss=unigram)


def read_rows(dataset: Iterable[Mapping[str, Any]], topics: Sequence[str], eos_id: int | None = None) -> RowTopics:
    """Read a data set's topics and labels once.

    Args:
        dataset: its rows, in order.
        topics: names of the ids.
        eos_id: the token between samples, which says nothing of their topics.

    Raises:
        ValueError: a row without topics, of a shape that doesn't fit, or with an id that is no topic's; no rows.
    """
    found, of_sample, of_row, is_soft = [], _Pairs(topics), _Pairs(topics), False
    for number, row in enumerate(dataset):
        is_packed = row.get("token_topic_ids") is not None
        is_soft |= is_packed or row.get("topic_probs") is not None
        parts = list(_packed(row, number) if is_packed else _whole(row, number))
        for labels, ids, probs in parts:
            wrong = ids[(ids < 0) | (ids >= len(topics))]
            if len(wrong):
                raise ValueError(f"row {number}: topic id {wrong[0]}; expected -1 (none) to {len(topics) - 1}")
            found.append(labels[(labels != IGNORED) & (labels != (IGNORED if eos_id is None else eos_id))])
            of_sample.add(ids, probs)
        of_row.add(*(_shares(parts) if is_packed else parts[0][1:]))
    if not found:
        raise ValueError("the data set has no rows with text; expected rows with 'labels' and their topics")
    tokens, lengths = np.concatenate(found).astype(np.int32), np.array([len(each) for each in found])
    samples, rows = of_sample.whole(), of_row.whole()
    digest = hashlib.sha256(str(list(topics)).encode())
    for values in (tokens, lengths, samples.indptr, samples.topic, rows.indptr, rows.topic, rows.prob):
        digest.update(values.tobytes())
    return RowTopics(rows, samples, tokens, lengths, is_soft, digest.hexdigest()[:16])


def _whole(row: Mapping[str, Any], number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Labels, topics and their probabilities of a row that is one sample."""
    if row.get("topic_ids") is None:
        raise ValueError(f"row {number}: has neither 'topic_ids' nor 'token_topic_ids'")
    ids = np.asarray(row["topic_ids"], np.int64)
    given = row.get("topic_probs")
    probs = np.ones(len(ids)) if given is None else np.asarray(given, np.float64)
    if ids.ndim != 1 or probs.shape != ids.shape:
        raise ValueError(f"row {number}: 'topic_ids' is {ids.shape}, 'topic_probs' {probs.shape}; expected both (M,)")
    yield np.asarray(row["labels"], np.int64), ids[ids != -1], probs[ids != -1]


def _packed(row: Mapping[str, Any], number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same of each sample of a packed row: as `hf_batch` parts it, by the tokens that are predicted."""
    labels, ids = (np.asarray(row[key], np.int64)[1:] for key in ("labels", "token_topic_ids"))
    if labels.shape != ids.shape:
        raise ValueError(f"row {number}: {len(ids) + 1} 'token_topic_ids' for {len(labels) + 1} labels")
    begins = np.diff(ids) != 0
    if row.get("segment_ids") is not None:
        begins |= np.diff(np.asarray(row["segment_ids"], np.int64)[1:]) != 0
    for part, of_part in zip(*(np.split(x, np.flatnonzero(begins) + 1) for x in (labels, ids)), strict=True):
        if (part != IGNORED).any():
            topics = of_part[:1][of_part[:1] != -1]
            yield part, topics, np.ones(len(topics))


def _shares(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Topics of a packed row, and the part of its labelled tokens that each has."""
    sizes: dict[int, int] = {}
    for labels, ids, _ in parts:
        for topic in ids.tolist():
            sizes[topic] = sizes.get(topic, 0) + int((labels != IGNORED).sum())
    total = max(sum(sizes.values()), 1)
    return np.array(list(sizes), np.int64), np.array([size / total for size in sizes.values()])


class _Pairs:
    """Gathers `TopicPairs`."""

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics, self.counts = topics, [0]
        self.ids, self.probs = list[np.ndarray](), list[np.ndarray]()

    def add(self, ids: np.ndarray, probs: np.ndarray) -> None:
        self.counts.append(len(ids))
        self.ids.append(ids)
        self.probs.append(probs)

    def whole(self) -> TopicPairs:
        topic, prob = (np.concatenate(parts) for parts in (self.ids, self.probs))
        return TopicPairs(list(self.topics), np.cumsum(self.counts), topic.astype(np.int32), prob.astype(np.float32))
