"""Entropies by n-grams: against a plain count, and of text, noise and what is repeated."""

from collections import Counter, defaultdict
from math import log

import numpy as np
import pytest

from tests.realtext import news_articles
from tests.topics.handmade import write_clusters
from tests.topics.planted import write_tables
from toremi_cli.corpus.tokenizer import save_tokenizer, train_tokenizer
from toremi_cli.layout import Workdir
from toremi_cli.ngrams import TokenRows, fair_rates, token_costs
from toremi_cli.schemas import END_OF_TEXT
from toremi_cli.topics import topic_entropy
from toremi_cli.topics.topic_entropy import topic_entropies


def plain_costs(samples, half, topic):
    """The same by dictionaries: (ngram, unigram) nats of each token."""
    counts = [defaultdict(Counter), defaultdict(Counter)]
    for ids, side, k in zip(samples, half, topic, strict=True):
        for place, token in enumerate(ids):
            contexts = [("corpus",), ("topic", k)]
            contexts += [("after", ids[place - 1])] if place else []
            contexts += [("after two", k, *ids[place - 2 : place])] if place > 1 else []
            for context in contexts:
                counts[side][context][token] += 1
    num_ids = max(token for ids in samples for token in ids) + 1

    def smoothed(side, context, token, below):
        seen = counts[1 - side][context]
        total = sum(seen.values()) + len(seen)
        return (seen[token] + len(seen) * below) / total if total else below

    ngram, unigram = [], []
    for ids, side, k in zip(samples, half, topic, strict=True):
        for place, token in enumerate(ids):
            chance = smoothed(side, ("topic", k), token, smoothed(side, ("corpus",), token, 1 / num_ids))
            unigram.append(-log(chance))
            if place:
                chance = smoothed(side, ("after", ids[place - 1]), token, chance)
            if place > 1:
                chance = smoothed(side, ("after two", k, *ids[place - 2 : place]), token, chance)
            ngram.append(-log(chance))
    return ngram, unigram


def test_costs_are_those_of_a_plain_count():
    generator = np.random.default_rng(0)
    lengths = [1, 2, 3, 0, 9, 40, 1, 25, 30]
    samples = [generator.integers(0, 6, size).tolist() for size in lengths]
    half, topic = generator.integers(0, 2, len(samples)), generator.integers(0, 3, len(samples))
    for found, expected in zip(
        token_costs(TokenRows.of(samples), half, topic), plain_costs(samples, half, topic), strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("samples", [[[0]], [[0], [0]], [[], [3, 3]], [[5, 4, 5]]])
def test_next_to_nothing_has_finite_costs(samples):
    ngram, unigram = token_costs(TokenRows.of(samples), np.arange(len(samples)) % 2, np.zeros(len(samples), int))
    assert np.isfinite(ngram).all() and np.isfinite(unigram).all() and len(ngram) == sum(map(len, samples))


KINDS = ("text", "shuffled words", "one form letter")


def corpus_of_kinds(tmp_path, shards=40):
    """A workdir, with a tokenizer, of text, the words of text in random order, and one text again and again."""
    articles = news_articles()[:90]
    generator = np.random.default_rng(0)
    shuffled = [" ".join(generator.permutation(article.split()).tolist()) for article in articles[30:60]]
    texts = [*articles[:30], *shuffled, *(f"{articles[60]} {number}" for number in range(30))]
    topics = np.repeat(np.arange(3), 30)
    order = np.random.default_rng(1).permutation(90)
    workdir = Workdir(tmp_path)
    write_tables(workdir, [texts[i] for i in order], [KINDS[topics[i]] for i in order], np.ones((90, 2)), shards)
    save_tokenizer(train_tokenizer(texts, 2000, 100_000), workdir.tokenizer, "x", END_OF_TEXT, {})
    write_clusters(workdir, topics[order].tolist(), shards)
    return workdir


def test_text_has_both_to_learn_and_context_noise_no_context_and_a_form_letter_nothing_to_learn(tmp_path):
    found = topic_entropies(corpus_of_kinds(tmp_path), 3)
    ngram, unigram = found.ngram, found.unigram
    worth = ngram * (unigram - ngram)
    assert worth[0] > 1.2 * max(worth[1], worth[2]), worth
    assert abs(unigram[1] - ngram[1]) < 0.1 * unigram[1], "words in random order tell nothing of the next one"
    assert ngram[2] < 0.5 < unigram[2]


def test_shards_and_topics_without_samples_change_nothing(tmp_path):
    whole = topic_entropies(corpus_of_kinds(tmp_path / "a"), 3)
    parts = topic_entropies(corpus_of_kinds(tmp_path / "b", shards=7), 4)
    assert np.array_equal(whole.ngram, parts.ngram[:3]) and np.array_equal(whole.unigram, parts.unigram[:3])
    assert np.isnan(parts.ngram[3]) and np.isnan(parts.unigram[3])


def test_of_a_large_corpus_a_bounded_part_is_read(tmp_path, monkeypatch):
    workdir = corpus_of_kinds(tmp_path)
    whole = topic_entropies(workdir, 3)
    monkeypatch.setattr(topic_entropy, "MOST_TOKENS", 4000)
    part = topic_entropies(workdir, 3)
    assert 3_000 < part.num_tokens < 13_000 < whole.num_tokens and np.isfinite(part.ngram).all()


def test_large_topics_are_cut_down_before_small_ones():
    sizes = np.array([1000, 10, 300, 0])
    rates = fair_rates(sizes, 510)
    assert rates.tolist() == pytest.approx([0.25, 1, 250 / 300, 1])
    assert fair_rates(sizes, 10_000).tolist() == [1, 1, 1, 1]
