"""What the tokens of a run's topics cost under n-grams: what a policy can know of their worth before the first step.

Counted in the tokens that are trained on, so that it holds for any of `--topics`, and for a table that was made or
changed elsewhere. Seconds; kept beside the tokens.
"""

from __future__ import annotations

import numpy as np

from toremi_cli.files import atomic_file
from toremi_cli.lm.streams import permutation
from toremi_cli.ngrams import TokenRows, fair_rates, mean_costs
from toremi_cli.train.sampling import pairs_of
from toremi_cli.train.tokens import TokenCache, TopicPairs

MOST_TOKENS = 4_000_000
"""That are looked at; large topics are cut down first."""


def topic_costs(cache: TokenCache, mode: str, pairs: TopicPairs, samples: np.ndarray) -> np.ndarray:
    """(2, num_topics) float64 nats a token: under n-grams and under unigrams; nan for a topic without tokens.

    A sample of several topics counts for each of them.

    Args:
        cache: the tokens.
        mode: the way of `--topics` that `pairs` are read by.
        pairs: the topics of all samples of the cache.
        samples: (n,) those that are trained on.
    """
    file = cache.folder / f"costs-{mode}.npy"
    if not file.is_file():
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, count_costs(cache.tokens, cache.offset, cache.length, pairs, samples), allow_pickle=False)
    costs: np.ndarray = np.load(file, allow_pickle=False)
    return costs


def count_costs(
    tokens: np.ndarray, offset: np.ndarray, lengths: np.ndarray, pairs: TopicPairs, samples: np.ndarray
) -> np.ndarray:
    """What `topic_costs` keeps, of tokens that lie anywhere.

    Args:
        tokens: (num_tokens,) ids.
        offset: (num_samples,) where each sample begins.
        lengths: (num_samples,) its tokens.
        pairs: topics of all samples.
        samples: (n,) those to count.
    """
    samples = samples[permutation(len(samples), 0, "samples to count n-grams of")]
    indptr, topic, _ = pairs_of(samples, pairs)
    owner = np.repeat(samples, np.diff(indptr))
    length = lengths[owner].astype(np.int64)
    num_topics = len(pairs.names)
    sizes = np.bincount(topic, weights=length, minlength=num_topics)
    order = np.argsort(topic, kind="stable")  # by topic, within it in random order
    topic, owner, length = topic[order], owner[order], length[order]
    before = np.cumsum(length) - length
    within = before - (np.cumsum(sizes) - sizes)[topic]
    kept = within < (fair_rates(sizes, MOST_TOKENS) * sizes)[topic]
    topic, owner, length = topic[kept], owner[kept], length[kept]
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    place = np.arange(total) + np.repeat(offset[owner] - (ends - length), length)
    rows = TokenRows(tokens[place].astype(np.int64), np.repeat(np.arange(len(owner)), length))
    half = np.arange(len(owner)) % 2
    return np.stack(mean_costs(rows, half, topic, num_topics))
