"""What the tokens of a run's topics cost under n-grams: what a policy can know of their worth before the first step.

Counted in the tokens that are trained on, so that it holds for any of `--topics`, and for a table that was made or
changed elsewhere. Seconds; kept beside the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from toremi_cli.files import atomic_file
from toremi_cli.lm.streams import derive_seed
from toremi_cli.locks import lock_beside, locked
from toremi_cli.ngrams import TokenRows, fair_rates, mean_costs
from toremi_cli.reweight.strata import chunks_of, mix64
from toremi_cli.train.index import SampleIndex, TopicPairs
from toremi_cli.train.tokens import TokenCache

MOST_TOKENS = 4_000_000
"""That are looked at; large topics are cut down first."""


def topic_costs(cache: TokenCache, mode: str, index: SampleIndex) -> np.ndarray:
    """(2, num_topics) float64 nats a token: under n-grams and under unigrams; nan for a topic without tokens.

    A sample of several topics counts for each of them.

    Args:
        cache: the tokens.
        mode: the way of `--topics` of the index.
        index: the samples that are trained on, and their topics.
    """
    file = cache.folder / f"costs-{mode}.npy"
    if not file.is_file():
        with locked(lock_beside(file), file, "let it end", wait_seconds=math.inf):
            if not file.is_file():  # else another rank has counted
                costs = count_costs(cache.read, cache.offset, cache.length, index.pairs, index.samples)
                with atomic_file(file) as temporary, temporary.open("wb") as stream:
                    np.save(stream, costs, allow_pickle=False)
    found: np.ndarray = np.load(file, allow_pickle=False)
    return found


def count_costs(
    read: Callable[[np.ndarray, np.ndarray], np.ndarray],
    offset: np.ndarray,
    lengths: np.ndarray,
    pairs: TopicPairs,
    samples: np.ndarray,
) -> np.ndarray:
    """What `topic_costs` keeps, of tokens that lie anywhere.

    Args:
        read: the tokens of stretches, as `TokenCache.read`.
        offset: (num_samples,) where each sample begins.
        lengths: (num_samples,) its tokens.
        pairs: topics of all samples.
        samples: (n,) those to count.
    """
    num_topics, key = len(pairs.names), np.uint64(derive_seed(0, "samples to count n-grams of"))
    sizes = np.zeros(num_topics)
    for part in chunks_of(len(samples)):
        row, topic, _ = pairs.of(samples[part])
        sizes += np.bincount(topic, lengths[samples[part]][row], num_topics)
    rates, found = fair_rates(sizes, MOST_TOKENS), []
    for part in chunks_of(len(samples)):
        chance = mix64(key ^ np.arange(part.start, part.stop, dtype=np.uint64))
        row, topic, _ = pairs.of(samples[part])
        kept = chance[row] * 2.0**-64 < rates[topic]
        found.append((topic[kept], chance[row[kept]], samples[part][row[kept]]))
    topic, chance, owner = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((chance, topic))  # by topic, within it in random order
    topic, owner = topic[order], owner[order]
    length = lengths[owner].astype(np.int64)
    rows = TokenRows(read(offset[owner], length).astype(np.int64), np.repeat(np.arange(len(owner)), length))
    half = np.arange(len(owner)) % 2
    return np.stack(mean_costs(rows, half, topic, num_topics))
