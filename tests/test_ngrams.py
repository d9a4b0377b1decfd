"""Entropies under n-grams, against a plain second implementation and on text whose kind is known."""

import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from toremi_cli.ngrams import Text, topic_entropies


def text_of(samples, topics):
    """`samples`: lists of ids; `topics`: a list of topics for each."""
    length = np.array([len(s) for s in samples])
    counts = np.array([len(t) for t in topics])
    return Text(
        np.array([w for s in samples for w in s], np.uint16),
        np.cumsum(length) - length,
        length,
        np.concatenate([[0], np.cumsum(counts)]),
        np.array([t for ts in topics for t in ts], np.int64),
    )


def plain(samples, topics, num_topics):
    """The same by dictionaries, token by token."""

    def words(indices, size):
        for i in indices:
            padded = [-1, -1, *samples[i]]
            for j in range(2, len(padded)):
                yield tuple(padded[j - size + 1 : j + 1])

    def estimate(grams):
        after = defaultdict(Counter)
        for gram in grams:
            after[gram[:-1]][gram[-1]] += 1

        def probability(gram, shorter):
            seen = after.get(gram[:-1])
            if not seen:
                return shorter
            return (seen[gram[-1]] + len(seen) * shorter) / (seen.total() + len(seen))

        return probability

    everything = range(len(samples))
    vocabulary = max(w for s in samples for w in s) + 2
    ones = Counter(w for (w,) in words(everything[::2], 1))
    two = estimate(words(everything[::2], 2))
    for topic in range(num_topics):
        own = [i for i in everything if topic in topics[i]]
        three, one = estimate(words(own[::2], 3)), estimate(words(own[::2], 1))
        grams = list(words(own[1::2], 3))
        chance = {w: (ones[w] + 1) / (ones.total() + vocabulary) for _, _, w in grams}
        with_context = [three(g, two(g[1:], chance[g[2]])) for g in grams]
        without = [one(g[2:], chance[g[2]]) for g in grams]
        yield tuple(-sum(map(math.log, p)) / len(p) for p in (with_context, without))


def sentences(rng, words, count):
    """Samples of a language: each word is followed by one of three."""
    following = {w: rng.sample(words, 3) for w in words}
    samples = []
    for _ in range(count):
        sample = [rng.choice(words)]
        while len(sample) < 60:
            sample.append(rng.choice(following[sample[-1]]))
        samples.append(sample)
    return samples


def test_equals_the_plain_way():
    rng = random.Random(0)
    samples = [[rng.randrange(12) for _ in range(rng.randrange(1, 9))] for _ in range(60)]
    topics = [rng.sample(range(4), rng.randrange(3)) for _ in samples]
    found = topic_entropies(text_of(samples, topics), 4)
    assert np.allclose(np.array(found).T, list(plain(samples, topics, 4)), rtol=1e-12)


def test_noise_has_no_use_for_context_and_rote_needs_nothing_else():
    rng = random.Random(1)
    words = list(range(200))
    clean = sentences(rng, words, 200)
    noise = [rng.sample(s, len(s)) for s in sentences(rng, words, 200)]
    rote = [clean[0]] * 200
    topics = [[0]] * 200 + [[1]] * 200 + [[2]] * 200
    (n, u) = topic_entropies(text_of(clean + noise + rote, topics), 3)
    assert n[0] < 0.5 * u[0]
    assert n[1] > 0.97 * u[1]
    assert n[2] < 0.1


def test_only_so_many_tokens_are_looked_at_and_small_topics_have_no_entropy():
    rng = random.Random(2)
    samples = sentences(rng, list(range(50)), 400)
    text = text_of(samples, [[0]] * 399 + [[1]])
    whole, part = topic_entropies(text, 2), topic_entropies(text, 2, most_tokens=12_000)
    assert part[0][0] == pytest.approx(whole[0][0], rel=0.2)
    assert part[0][0] != whole[0][0]
    assert np.isnan(whole[0][1])
    assert all(np.isnan(x).all() for x in topic_entropies(text_of([[1, 2]], [[]]), 3))
