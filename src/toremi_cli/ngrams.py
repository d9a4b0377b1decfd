"""What context tells about tokens, measured by n-grams before anything is trained.

Samples are halved at random, and each half is predicted from counts of the other, so that nothing is known by heart
which doesn't come again. Every level is smoothed by the one below it after Witten and Bell (1991, "The zero-frequency
problem"): a context that is followed by n different tokens in c places leaves n / (c + n) to the level below. That
needs no constant, and a context that says nothing costs what it promises.

    unigrams:  tokens of the topic, then of the corpus
    n-grams:   trigrams of the topic, then bigrams of the corpus, then those unigrams

Counts are exact. Everything is sums of whole numbers, and of costs in a fixed order, so it is the same on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenRows:
    """Tokens of samples one after another: `ids` (num_tokens,), and `sample` (num_tokens,) the number of each one's
    sample, ascending from 0."""

    ids: np.ndarray
    sample: np.ndarray

    @classmethod
    def of(cls, samples: list[list[int]]) -> TokenRows:
        """From the token ids of each sample."""
        sizes = np.array([len(ids) for ids in samples], dtype=np.int64)
        parts = [np.asarray(ids, dtype=np.int64) for ids in samples]
        ids = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return cls(ids, np.repeat(np.arange(len(samples)), sizes))

    def with_one_before(self) -> np.ndarray:
        """Places of the tokens that are not the first of their sample."""
        return np.flatnonzero(self.sample[1:] == self.sample[:-1]) + 1


@dataclass(frozen=True)
class NgramOrder:
    """One level's counts, looked up for each of some tokens: those of the half that the token is *not* in.

    `count` (num_tokens,) of the token in its context, `in_context` of the context, `followers` different tokens in it.
    """

    count: np.ndarray
    in_context: np.ndarray
    followers: np.ndarray

    def smoothed(self, below: np.ndarray) -> np.ndarray:
        """(num_tokens,) probability, `below` being that of the level below."""
        total = self.in_context + self.followers
        return np.where(total > 0, (self.count + self.followers * below) / np.maximum(total, 1), below)


def other_half(context: np.ndarray, ids: np.ndarray, half: np.ndarray) -> NgramOrder:
    """Count tokens in contexts, in each half, and look both up for each token in the half that it isn't in.

    Args:
        context: (num_tokens,) whole numbers below 2^31, what stands before each token.
        ids: (num_tokens,) the tokens, below 2^31.
        half: (num_tokens,) 0 or 1.
    """
    pairs, pair = np.unique(context << 32 | ids, return_inverse=True)
    contexts, of_pair = np.unique(pairs >> 32, return_inverse=True)
    counts = np.bincount(2 * pair + half, minlength=2 * len(pairs)).reshape(-1, 2)
    shape = len(contexts), 2
    in_context, followers = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    np.add.at(in_context, of_pair, counts)
    np.add.at(followers, of_pair, counts > 0)
    place, other = of_pair[pair], 1 - half
    return NgramOrder(counts[pair, other], in_context[place, other], followers[place, other])


def token_costs(rows: TokenRows, half: np.ndarray, topic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each token costs under n-grams and under unigrams, (num_tokens,) nats both.

    Args:
        rows: the tokens.
        half: (num_samples,) 0 or 1, the half that each sample is in.
        topic: (num_samples,) of each sample.
    """
    in_half, of_topic = half[rows.sample], topic[rows.sample]
    num_ids = int(rows.ids.max(initial=0)) + 1
    zeros = np.zeros_like(rows.ids)
    corpus = other_half(zeros, rows.ids, in_half).smoothed(np.full(len(rows.ids), 1 / num_ids))
    unigram = other_half(of_topic, rows.ids, in_half).smoothed(corpus)
    bigram = unigram.copy()
    second = rows.with_one_before()
    level = other_half(rows.ids[second - 1], rows.ids[second], in_half[second])
    bigram[second] = level.smoothed(unigram[second])
    trigram = bigram.copy()
    third = second[rows.sample[second] == rows.sample[np.maximum(second - 2, 0)]]
    third = third[third >= 2]  # tokens with two before them
    for members in _by_topic(of_topic[third]):
        places = third[members]
        _, context = np.unique(rows.ids[places - 2] << 32 | rows.ids[places - 1], return_inverse=True)
        level = other_half(context, rows.ids[places], in_half[places])
        trigram[places] = level.smoothed(bigram[places])
    return -np.log(trigram), -np.log(unigram)


def mean_costs(rows: TokenRows, half: np.ndarray, topic: np.ndarray, num_topics: int) -> tuple[np.ndarray, np.ndarray]:
    """What a token of each topic costs under n-grams and under unigrams, (num_topics,) nats; nan without tokens.

    Args:
        rows, half, topic: see `token_costs`.
        num_topics: topics are below it.
    """
    of_token = topic[rows.sample]
    count = np.bincount(of_token, minlength=num_topics)
    with np.errstate(invalid="ignore"):
        sums = (np.bincount(of_token, weights=each, minlength=num_topics) for each in token_costs(rows, half, topic))
        ngram, unigram = (each / count for each in sums)
    return ngram, unigram


def fair_rates(sizes: np.ndarray, most: int) -> np.ndarray:
    """(num_topics,) the part to take of each topic of these `sizes`, so that about `most` are taken in all.

    One cap for all: topics below it are taken whole.
    """
    ascending = np.sort(sizes)
    room = most - np.concatenate([[0], np.cumsum(ascending)[:-1]])  # for a topic and all that are larger
    caps = room / np.arange(len(sizes), 0, -1)
    binding = np.flatnonzero(caps < ascending)
    cap = caps[binding[0]] if len(binding) else np.inf
    return np.minimum(1.0, cap / np.maximum(sizes, 1))


def _by_topic(topic: np.ndarray) -> list[np.ndarray]:
    """The places of each topic."""
    order = np.argsort(topic, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(topic[order])) + 1) if len(topic) else []
