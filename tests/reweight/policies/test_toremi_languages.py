"""Text of another language and script, a small part of an English corpus, is not taken for junk."""

import bz2
import re
from importlib.resources import files

import numpy as np
import pytest
from tokenizers import ByteLevelBPETokenizer

from toremi_cli.ngrams import TokenRows, mean_costs
from toremi_cli.reweight import PolicyConfig, PolicyData, make_policy

PIECE = 1000
"""Characters."""


def wikipedia(name, encoding):
    """The articles' text in a shortened dump that gensim's own tests use, in pieces."""
    dump = bz2.decompress((files("gensim.test") / "test_data" / name).read_bytes()).decode(encoding)
    texts = (re.sub(r"\{\{.*?\}\}|<.*?>|\[\[|\]\]|&\w+;", " ", t, flags=re.DOTALL) for t in re.findall(
        r"<text[^>]*>(.*?)</text>", dump, re.DOTALL
    ))  # fmt: skip
    return [t[i : i + PIECE] for t in texts for i in range(0, len(t), PIECE)]


@pytest.fixture
def samples():
    english = wikipedia("enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2", "utf-8")
    news = (files("gensim.test") / "test_data" / "lee_background.cor").read_text("utf-8").splitlines()
    bulgarian = wikipedia("bgwiki-latest-pages-articles-shortened.xml.bz2", "utf-16")
    noise = [" ".join(np.random.default_rng(i).permutation(list(t))) for i, t in enumerate(news[:40])]
    return [english[:700], news, bulgarian[:60], noise]


def test_another_script_is_drawn_no_less_than_english(samples):
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator((t for topic in samples for t in topic), 4096, show_progress=False)
    ids = [e.ids for topic in samples for e in tokenizer.encode_batch(topic)]
    topic = np.repeat(np.arange(4), [len(texts) for texts in samples])
    ngram, unigram = mean_costs(TokenRows.of(ids), np.arange(len(ids)) % 2, topic, 4)
    sizes = np.bincount(topic, [len(i) for i in ids]).tolist()
    data = PolicyData(sizes=sizes, ngram_loss=ngram.tolist(), unigram_loss=unigram.tolist())
    english, news, bulgarian, noise = make_policy(PolicyConfig(name="toremi"), ["en", "news", "bg", "x"], data).weights
    assert bulgarian > english
    assert bulgarian > 1
    assert noise < 0.01 < news
