"""What n-grams tell of each topic before any training: how many nats a token its words cost, with context and without.

The samples are cut in two halves. Counts are of the one, entropies of the other, so that nothing is predicted from
itself:

    U    unigrams of the topic, smoothed by those of the corpus
    N    trigrams of the topic, backing off to bigrams and unigrams of the corpus

Interpolation is Witten and Bell's (1991): a context that was followed by t different tokens in C occurrences leaves
t / (C + t) to the shorter one. There is nothing to set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_TOKENS = 4_000_000
"""Tokens that are looked at, of all topics in proportion: some seconds of one core."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Text:
    """Tokens of samples, and the topics of each."""

    tokens: np.ndarray
    """(num_tokens,) ids, samples anywhere in it."""
    begin: np.ndarray
    """(num_samples,) where each sample begins."""
    length: np.ndarray
    """(num_samples,) its tokens."""
    indptr: np.ndarray
    """(num_samples + 1,): sample i has the topics topic[indptr[i]:indptr[i + 1]]."""
    topic: np.ndarray
    """(num_pairs,) int"""


def topic_entropies(text: Text, num_topics: int, most_tokens: int = MOST_TOKENS) -> tuple[np.ndarray, np.ndarray]:
    """N and U of each topic, both (num_topics,) float64 in nats a token; NaN for a topic of less than two samples."""
    chosen = _spread(text.length, most_tokens)
    pairs = np.diff(text.indptr)[chosen]
    owner = np.repeat(np.arange(len(chosen)), pairs)
    first = np.repeat(text.indptr[chosen], pairs)
    topic = text.topic[first + np.arange(len(owner)) - np.repeat(np.cumsum(pairs) - pairs, pairs)]
    words, sample = _gather(text, chosen)
    keys = _Keys(words, sample)
    counted = np.arange(len(chosen)) % 2 == 0
    corpus = _Corpus(keys, counted[sample])
    bounds = np.searchsorted(sample, np.arange(len(chosen) + 1))
    order = np.argsort(topic, kind="stable")
    begins = np.searchsorted(topic[order], np.arange(num_topics + 1))
    result = np.full((2, num_topics), np.nan)
    for k in range(num_topics):
        own = owner[order[begins[k] : begins[k + 1]]]
        known, asked = own[::2], own[1::2]
        if len(asked):
            result[:, k] = corpus.entropies(*(_ranges(bounds, half) for half in (known, asked)))
    return result[0], result[1]


def _spread(length: np.ndarray, most_tokens: int) -> np.ndarray:
    """Indices of samples at equal distances, of about so many tokens in all."""
    step = max(float(length.sum()) / most_tokens, 1.0)
    return np.unique(np.floor(np.arange(int(len(length) / step)) * step).astype(np.int64))


def _gather(text: Text, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chosen samples' tokens end to end, and for each its sample's place in `chosen`; both (n,)."""
    length = text.length[chosen].astype(np.int64)
    sample = np.repeat(np.arange(len(chosen)), length)
    ends = np.cumsum(length)
    index = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(text.begin[chosen] - (ends - length), length)
    return text.tokens[index].astype(np.uint64) + np.uint64(1), sample


def _ranges(bounds: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Positions of all tokens of some samples."""
    length = bounds[samples + 1] - bounds[samples]
    ends = np.cumsum(length)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(bounds[samples] - (ends - length), length)


def _mixed(context: np.ndarray, word: np.ndarray) -> np.ndarray:
    """A 64-bit number for each pair of context and word."""
    key = (context ^ (context >> np.uint64(29))) * _FACTOR + word
    return (key ^ (key >> np.uint64(32))) * _FACTOR


class _Keys:
    """Numbers for each token's word, and for its contexts of one and two words; 0 stands before a sample's first."""

    def __init__(self, words: np.ndarray, sample: np.ndarray) -> None:
        self.word = words
        self.context = np.zeros_like(words)
        self.context[1:] = np.where(sample[1:] == sample[:-1], words[:-1], 0)
        before = np.zeros_like(words)
        before[1:] = np.where(sample[1:] == sample[:-1], self.context[:-1], 0)
        self.contexts = _mixed(before, self.context)
        self.bigram = _mixed(self.context, words)
        self.trigram = _mixed(self.contexts, words)


class _Counts:
    """How often each key occurs."""

    def __init__(self, keys: np.ndarray) -> None:
        self.keys, self.counts = np.unique(keys, return_counts=True)

    def of(self, keys: np.ndarray) -> np.ndarray:
        """Counts of other keys, 0 where there is none."""
        if not len(self.keys):
            return np.zeros(len(keys))
        place = np.searchsorted(self.keys, keys)
        place[place == len(self.keys)] = 0
        return np.where(self.keys[place] == keys, self.counts[place], 0)


class _Continuations:
    """Witten and Bell's estimate of words after contexts, from an occurrence of each."""

    def __init__(self, context: np.ndarray, key: np.ndarray) -> None:
        _, first = np.unique(key, return_index=True)
        self.joint, self.total, self.types = _Counts(key), _Counts(context), _Counts(context[first])

    def probability(self, context: np.ndarray, key: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """(n,) probability of each word in its context, `shorter` being those without the context's first word."""
        total, types = self.total.of(context), self.types.of(context)
        joint = self.joint.of(key)
        return np.where(total > 0, (joint + types * shorter) / np.maximum(total + types, 1), shorter)


class _Corpus:
    def __init__(self, keys: _Keys, counted: np.ndarray) -> None:
        self.keys = keys
        words = keys.word.astype(np.int64)
        occurrences = np.bincount(words[counted], minlength=int(words.max(initial=0)) + 1) + 1.0
        self.unigram = (occurrences / occurrences.sum())[words]
        after = _Continuations(keys.context[counted], keys.bigram[counted])
        self.bigram = after.probability(keys.context, keys.bigram, self.unigram)

    def entropies(self, known: np.ndarray, asked: np.ndarray) -> tuple[float, float]:
        """N and U of the tokens at the positions `asked`, from those at `known`."""
        keys = self.keys
        own = _Continuations(keys.contexts[known], keys.trigram[known])
        with_context = own.probability(keys.contexts[asked], keys.trigram[asked], self.bigram[asked])
        nothing = np.zeros(max(len(known), len(asked)), np.uint64)
        alone = _Continuations(nothing[: len(known)], keys.word[known])
        without = alone.probability(nothing[: len(asked)], keys.word[asked], self.unigram[asked])
        return float(-np.log(with_context).mean()), float(-np.log(without).mean())
