"""Entropies of each topic's tokens, by n-grams and by unigrams: what is left to learn of it, and what context gives.

Tokens are those of the tokenizer in use, of the train split. Of a large corpus at most MOST_TOKENS are looked at, drawn
so that large topics are cut down before small ones lose any; which samples those are depends on their ids alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from toremi_cli import console
from toremi_cli.corpus.hashing import HASH_RANGE, keyed_hash
from toremi_cli.errors import CorpusError
from toremi_cli.layout import Workdir
from toremi_cli.lm.tokenizer import load_tokenizer
from toremi_cli.ngrams import TokenRows, fair_rates, mean_costs
from toremi_cli.schemas import CLUSTERS, NO_TOPIC, SAMPLES, TRAIN
from toremi_cli.tables import TableReader
from toremi_cli.topics.joining import BATCH_ROWS, rebatched

MOST_TOKENS = 10_000_000
"""Their exact counts take about 50 bytes a token, and seconds."""
PURPOSE = "samples to count n-grams of"


@dataclass(frozen=True)
class TopicEntropies:
    """`ngram` and `unigram` (num_topics,) nats a token, nan for a topic without a token to train on; from how many
    tokens they were measured."""

    ngram: np.ndarray
    unigram: np.ndarray
    num_tokens: int


def topic_entropies(workdir: Workdir, num_topics: int) -> TopicEntropies | None:
    """Measure the topics of table `clusters`; None where the workdir has no tokenizer.

    Cross-entropies of a topic's one half under counts of the other, averaged over both (`ngrams.token_costs`).
    """
    try:
        tokenizer = load_tokenizer(workdir.tokenizer)
    except CorpusError as problem:
        console.note(f"{problem}: the entropies of the topics are left out")
        return None
    samples, clusters = TableReader(workdir.samples, SAMPLES), TableReader(workdir.clusters, CLUSTERS)
    sizes = np.zeros(num_topics, np.int64)
    for rows, topic in _trained_on(samples, clusters, ["split", "num_tokens"]):
        sizes += np.bincount(topic, weights=rows["num_tokens"].to_numpy(), minlength=num_topics).astype(np.int64)
    rate = fair_rates(sizes, MOST_TOKENS)
    ids: list[TokenRows] = []
    topics: list[int] = []
    hashes: list[int] = []
    with console.progress("measuring entropies", int((sizes * rate).sum()), "tokens") as bar:
        for rows, topic in _trained_on(samples, clusters, ["split", "sample_id", "text"]):
            hashed = [keyed_hash(PURPOSE, sample_id) for sample_id in rows["sample_id"].to_pylist()]
            chosen = np.array([place for place, value in enumerate(hashed) if value / HASH_RANGE < rate[topic[place]]])
            if not len(chosen):
                continue
            encoded = TokenRows.of(tokenizer.ids(rows["text"].take(pa.array(chosen)).to_pylist()))
            ids.append(TokenRows(encoded.ids.astype(np.int32), encoded.sample.astype(np.int32) + len(topics)))
            topics += topic[chosen].tolist()
            hashes += [hashed[place] for place in chosen]
            bar.advance(len(encoded.ids))
    return _entropies(ids, np.array(topics, dtype=np.int64), np.array(hashes, dtype=np.uint64), num_topics)


def _trained_on(
    samples: TableReader, clusters: TableReader, columns: list[str]
) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Rows of the train split that have a topic, and the topic of each, (num_rows,)."""
    for shard in range(len(samples.shards)):
        batches = rebatched(samples, columns, shard, BATCH_ROWS), rebatched(clusters, ["topic"], shard, BATCH_ROWS)
        for rows, others in zip(*batches, strict=True):
            topic = others["topic"].to_numpy()
            kept = (np.array(rows["split"].to_pylist()) == TRAIN) & (topic != NO_TOPIC)
            yield rows.filter(pa.array(kept)), topic[kept]


def _entropies(parts: list[TokenRows], topic: np.ndarray, hashes: np.ndarray, num_topics: int) -> TopicEntropies:
    if not parts:
        nothing = np.full(num_topics, np.nan)
        return TopicEntropies(nothing, nothing, 0)
    ids = np.concatenate([part.ids for part in parts]).astype(np.int64)
    rows = TokenRows(ids, np.concatenate([part.sample for part in parts]).astype(np.int64))
    half = np.empty(len(topic), np.int64)
    half[np.lexsort((hashes, topic))] = np.arange(len(topic)) % 2  # every topic in two halves, however small
    ngram, unigram = mean_costs(rows, half, topic, num_topics)
    return TopicEntropies(ngram, unigram, len(ids))
