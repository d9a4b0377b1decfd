import json

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.test_stage import write_corpus
from tests.realtext import news_articles
from toremi_cli.corpus.config import CorpusConfig, MixtureConfig
from toremi_cli.corpus.mixture import build_mixture, nearest_threshold, share_out
from toremi_cli.corpus.readers import Corpus
from toremi_cli.corpus.shards import JsonlShards
from toremi_cli.corpus.tokenizer import END_OF_TEXT, save_tokenizer, train_tokenizer
from toremi_cli.errors import CorpusError, UsageError
from toremi_cli.lm.tokenizer import TextTokenizer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    articles = news_articles()
    shorts = [" ".join(text.split()[i : i + 15]) for text in articles[:100] for i in range(0, 90, 15)]
    return write_corpus(tmp_path_factory.mktemp("mix") / "c", books=articles[:40], web=shorts, chat=articles[100:120])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tok") / "tok"
    trained = train_tokenizer(news_articles()[:100], 600, 10**9)
    save_tokenizer(trained, folder, "key", END_OF_TEXT, {})
    return folder


def draw(corpus, out, **config):
    settings_ = {"ratios": "books:0.25,web:0.75", "tokens": "8K", **config}
    return build_mixture(str(corpus), out, MixtureConfig(**settings_), CorpusConfig())


def documents(folder):
    return {d.id: d for d in Corpus(str(folder), CorpusConfig()).documents()}


def test_sources_come_near_their_targets(corpus, tokenizer, tmp_path):
    record = draw(corpus, tmp_path / "mix", tokenizer=str(tokenizer))
    found = documents(tmp_path / "mix")
    counter = TextTokenizer(train_tokenizer(news_articles()[:100], 600, 10**9))
    for source, target in (("books", 2000), ("web", 6000)):
        facts = record["mixtures"]["8K"][source]
        texts = [d.text for d in found.values() if d.source == source]
        assert len(texts) == facts["documents"]
        assert sum(counter.count(texts)) == facts["tokens"]
        longest = max(counter.count(texts))
        assert abs(facts["tokens"] - target) <= longest
    original = documents(corpus)
    assert all(original[d.id].text == d.text and original[d.id].source == d.source for d in found.values())


def test_without_ratios_the_whole_corpus_is_drawn_from_alike(corpus, tokenizer, tmp_path, capsys):
    record = draw(corpus, tmp_path / "mix", ratios=None, tokens="4K,8K", tokenizer=str(tokenizer))
    mixtures, original = record["mixtures"], documents(corpus)
    assert list(mixtures["8K"]) == ["whole corpus"]
    small, large = (documents(tmp_path / "mix" / name) for name in ("4K", "8K"))
    assert small.keys() < large.keys() < original.keys()
    assert {document.source for document in large.values()} == {"books", "web", "chat"}
    counter = TextTokenizer(train_tokenizer(news_articles()[:100], 600, 10**9))
    tokens = counter.count([document.text for document in large.values()])
    assert sum(tokens) == mixtures["8K"]["whole corpus"]["tokens"] == pytest.approx(8000, abs=max(tokens))
    taken, there = ([d.source for d in found.values()].count("web") / len(found) for found in (large, original))
    assert taken == pytest.approx(there, abs=0.1)
    draw(corpus, tmp_path / "all", ratios=None, tokens="9M")
    assert documents(tmp_path / "all").keys() == original.keys()
    assert "9M: the corpus runs short:" in capsys.readouterr().err


def test_a_smaller_mixture_is_contained_in_a_larger_one(corpus, tmp_path):
    draw(corpus, tmp_path / "mix", tokens="4K,10K", tokenizer=None)
    small, large = documents(tmp_path / "mix" / "4K"), documents(tmp_path / "mix" / "10K")
    assert 0 < len(small) < len(large) and small.keys() < large.keys()
    draw(corpus, tmp_path / "alone", tokens="4K")
    assert documents(tmp_path / "alone").keys() == small.keys(), "a target alone draws the same documents"
    draw(corpus, tmp_path / "other", tokens="4K", seed=1)
    assert documents(tmp_path / "other").keys() != small.keys()


def test_estimated_tokens_are_near(corpus, tokenizer, tmp_path):
    record = draw(corpus, tmp_path / "mix")
    assert record["tokens_are"] == "estimated"
    assert abs(record["mixtures"]["8K"]["web"]["tokens"] - 6000) < 60


@pytest.mark.parametrize("short", ["leave", "redistribute"])
def test_a_source_that_runs_short(corpus, tmp_path, capsys, short):
    ratios = "chat:0.5,books:0.1,web:0.4"
    facts = draw(corpus, tmp_path / "mix", ratios=ratios, tokens="20K", short=short)["mixtures"]["20K"]
    assert "source 'chat' runs short" in capsys.readouterr().err
    assert facts["chat"]["is_short"] and facts["chat"]["documents"] == 20
    total = sum(part["tokens"] for part in facts.values())
    expected = 20_000 if short == "redistribute" else 10_000 + facts["chat"]["available_tokens"]
    assert total == pytest.approx(expected, abs=500)
    if short == "redistribute":
        assert facts["web"]["target_tokens"] == pytest.approx(4 * facts["books"]["target_tokens"], rel=0.01)


def test_a_rerun_and_a_change(corpus, tmp_path, capsys):
    draw(corpus, tmp_path / "mix")
    stamp = (tmp_path / "mix" / "part-00000.jsonl.zst").stat().st_mtime_ns
    draw(corpus, tmp_path / "mix")
    assert "up to date" in capsys.readouterr().err
    assert (tmp_path / "mix" / "part-00000.jsonl.zst").stat().st_mtime_ns == stamp
    draw(corpus, tmp_path / "mix", seed=3)
    assert (tmp_path / "mix" / "part-00000.jsonl.zst").stat().st_mtime_ns != stamp
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("precious")
    with pytest.raises(UsageError, match="is there already and is no mixture"):
        draw(corpus, tmp_path / "mine")


def test_nothing_else_in_the_folder_goes_with_a_mixture(corpus, tmp_path):
    draw(corpus, tmp_path / "mix")
    (tmp_path / "mix" / "toremi-out").mkdir()
    (tmp_path / "mix" / "toremi-out" / "notes").write_text("precious")
    with pytest.raises(UsageError, match=r"mix: holds toremi-out.* beside a mixture; name a new folder"):
        draw(corpus, tmp_path / "mix", tokens="4K")
    assert (tmp_path / "mix" / "toremi-out" / "notes").read_text() == "precious"


def test_an_unknown_source_is_named(corpus, tmp_path):
    with pytest.raises(CorpusError, match=r"no document of source 'boks' \(found books, chat, web\)"):
        draw(corpus, tmp_path / "mix", ratios="boks:1,web:1")


def test_files_of_bounded_size(tmp_path):
    with JsonlShards(tmp_path / "s", shard_bytes=1000) as shards:
        for i in range(100):
            shards.write({"id": i, "text": "ü" * 20})
    files = sorted((tmp_path / "s").iterdir())
    assert len(files) > 3
    data = b"".join(zstandard.ZstdDecompressor().decompressobj().decompress(f.read_bytes()) for f in files)
    assert [json.loads(line)["id"] for line in data.splitlines()] == list(range(100))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any), st.floats(0.1, 3000))
def test_threshold_is_the_nearest_that_takes_something(tokens, target):
    counts = np.array(tokens, dtype=float)
    threshold = nearest_threshold(counts, target)
    taken = counts[:threshold].sum()
    possible = [total for total in np.cumsum(counts) if total > 0]
    assert taken > 0
    assert abs(taken - target) == pytest.approx(min(abs(total - target) for total in possible))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(1, 1000)), min_size=1, max_size=6), st.floats(1, 3000))
def test_a_larger_total_never_takes_less(sources, total):
    shares = {str(i): share / sum(s for s, _ in sources) for i, (share, _) in enumerate(sources)}
    available = {str(i): size for i, (_, size) in enumerate(sources)}
    small = share_out(shares, available, total, redistribute=True)
    large = share_out(shares, available, total * 1.5, redistribute=True)
    assert all(large[name] >= small[name] * (1 - 1e-9) for name in shares)
    assert sum(small.values()) == pytest.approx(min(total, sum(available.values())), rel=1e-6)


def test_parsing():
    config = MixtureConfig("2.6B,7.2b,500K,12", "books:0.002, a:b:0.5")
    assert config.ratio_of == {"books": 0.002, "a:b": 0.5}
    assert config.targets == {"2.6B": 2.6e9, "7.2b": 7.2e9, "500K": 5e5, "12": 12}
    for text in ("books", "books:x", "books:-1", "a:1,a:2", ":1", ","):
        with pytest.raises(UsageError, match="--ratios"):
            MixtureConfig("1K", text)
    for text in ("much", "2Q", "-5", "0", ""):
        with pytest.raises(UsageError, match="--tokens"):
            MixtureConfig(text, "a:1")


def test_a_repeated_id_is_refused(tmp_path):
    folder = write_corpus(tmp_path / "c", books=["one text", "another"])
    (folder / "more.jsonl").write_text(json.dumps({"id": "books-1", "source": "books", "text": "a third"}))
    with pytest.raises(CorpusError, match=r"more.jsonl:1: id 'books-1' again, first at .*books.jsonl:2"):
        draw(folder, tmp_path / "out", ratios="books:1")


def test_groups_are_kept_for_the_split(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": 1, "book": "a", "source": "s", "text": "x"}\n')
    settings = MixtureConfig(ratios="s:1", tokens="1")
    build_mixture(str(tmp_path / "c.jsonl"), tmp_path / "mix", settings, CorpusConfig(group_field="book"))
    documents = list(Corpus(str(tmp_path / "mix"), CorpusConfig(group_field="group")).documents())
    assert [(document.id, document.split_key) for document in documents] == [("1", "a")]
