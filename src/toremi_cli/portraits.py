"""What topics look like from outside: by their words in any corpus, by their centres where vectors are the same.

By its portrait a topic of one clustering is found again in another, of the same corpus or of another one.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli.errors import TableError
from toremi_cli.layout import Workdir
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import ANNOTATED, EMBEDDINGS, TRAIN
from toremi_cli.tables import TableReader

MOST_ROWS, MOST_SHARDS = 20_000, 16
"""Of the table: what portraits are made of."""
NUM_WORDS = 300
"""Of each topic, the most frequent ones."""
LONGEST_WORD = 24
_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")


@dataclass(frozen=True)
class Portraits:
    """Of topics; all lists have an entry for each."""

    topics: list[str]
    words: list[dict[str, float]]
    """Shares of the topic's most frequent words."""
    centres: np.ndarray | None
    """(num_topics, dim) mean vectors of length 1, or 0 where a topic's samples have none; None without vectors."""
    space: str
    """What vectors are comparable within: a model's name, or the table that they were learnt for."""
    sizes: np.ndarray
    """(num_topics,) words read of each."""


def words_of(text: str) -> Iterator[str]:
    """Words in lower case, and signs, by which tables and encoded files are known.

    All numbers are one word, and so are all runs of letters that are too long for words.
    """
    for word in _WORD.findall(text.lower()):
        yield "0" if word.isdigit() else word if len(word) <= LONGEST_WORD else "<long>"


def paint(annotated: Path, topics: SampleTopics, workdir: Workdir) -> Portraits:
    """The portraits of the topics that training samples of a table have.

    Raises:
        TableError: no such table.
    """
    reader = TableReader(annotated, ANNOTATED)
    shards = range(0, len(reader.shards), -(-len(reader.shards) // MOST_SHARDS))
    one_in = sum(reader.rows_per_shard[shard] for shard in shards) // MOST_ROWS + 1
    counts: dict[str, Counter[str]] = {}
    topic_of: dict[str, str] = {}
    columns = list(dict.fromkeys(["sample_id", "split", "text", *topics.columns]))
    for batch in reader.iter_batches(columns, shards=list(shards)):
        for row in batch.to_pylist():
            parts = topics.of(row)
            if row["split"] == TRAIN and parts and zlib.crc32(str(row["sample_id"]).encode()) % one_in == 0:
                name = max(parts, key=lambda topic: parts[topic])
                topic_of[row["sample_id"]] = name
                counts.setdefault(name, Counter()).update(words_of(row["text"]))
    names = sorted(counts)
    words = [_most_frequent(counts[name]) for name in names]
    sizes = np.array([counts[name].total() for name in names], np.float64)
    return Portraits(names, words, *_centres(workdir, topic_of, names, list(shards)), sizes)


def _most_frequent(counts: Counter[str]) -> dict[str, float]:
    total = max(counts.total(), 1)
    return {word: count / total for word, count in counts.most_common(NUM_WORDS)}


def _centres(
    workdir: Workdir, topic_of: Mapping[str, str], names: Sequence[str], shards: Sequence[int]
) -> tuple[np.ndarray | None, str]:
    """Mean vectors of the topics of some samples in those shards, and their space."""
    try:
        reader = TableReader(workdir.embeddings, EMBEDDINGS)
    except TableError:
        return None, ""
    place = {name: i for i, name in enumerate(names)}
    sums: Any = 0.0
    there = [shard for shard in shards if shard < len(reader.shards)]
    for batch in reader.iter_batches(["sample_id", "vector"], shards=there):
        ids = [place.get(topic_of.get(sample, ""), -1) for sample in batch.column("sample_id").to_pylist()]
        vectors = batch.column("vector").flatten().to_numpy(zero_copy_only=False).reshape(len(ids), -1)
        belongs = np.equal.outer(np.arange(len(names)), np.array(ids))  # (num_topics, num_rows)
        sums = sums + belongs.astype(np.float64) @ vectors
    if not np.any(sums):
        return None, ""
    model = ((reader.record or {}).get("config") or {}).get("model")
    centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return centres, f"model {model}" if model else f"table {reader.fingerprint}"


def similarities(ours: Portraits, theirs: Portraits) -> tuple[np.ndarray, str]:
    """How like each of our topics is to each of theirs, (num_ours, num_theirs), and by what: 'centres' or 'words'.

    By words, as also between topics without a centre, it is the cosine of the square roots of their shares, each times
    how few topics have the word.
    """
    likeness = _by_words(ours.words, theirs.words)
    if ours.space != theirs.space or ours.centres is None or theirs.centres is None:
        return likeness, "words"
    both = np.logical_and.outer(ours.centres.any(axis=1), theirs.centres.any(axis=1))
    neither = np.logical_and.outer(~ours.centres.any(axis=1), ~theirs.centres.any(axis=1))
    return np.where(both, ours.centres @ theirs.centres.T, np.where(neither, likeness, 0)), "centres"


def _by_words(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> np.ndarray:
    every = sorted({word for words in (*ours, *theirs) for word in words})
    index = {word: i for i, word in enumerate(every)}
    a, b = (_matrix(words, index) for words in (ours, theirs))
    has = [(matrix > 0).mean(axis=0) for matrix in (a, b)]
    rare = np.log(1 + 1 / np.maximum((has[0] + has[1]) / 2, 1e-12))
    a, b = (np.sqrt(matrix) * rare for matrix in (a, b))
    a, b = (matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12) for matrix in (a, b))
    return a @ b.T


def _matrix(words: list[dict[str, float]], index: Mapping[str, int]) -> np.ndarray:
    matrix = np.zeros((len(words), len(index)))
    for row, shares in enumerate(words):
        matrix[row, [index[word] for word in shares]] = list(shares.values())
    return matrix
