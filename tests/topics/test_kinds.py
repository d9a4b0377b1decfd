"""Topics are cut by kind of text: what is cut, what is not, and how samples are put into the pieces."""

import base64

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.realtext import news_articles
from tests.topics.planted import write_tables
from toremi_cli.corpus.tokenizer import save_tokenizer, train_tokenizer
from toremi_cli.layout import Workdir
from toremi_cli.lm.tokenizer import load_tokenizer
from toremi_cli.schemas import CLUSTERS, END_OF_TEXT, NO_TOPIC, TOPICS
from toremi_cli.tables import TableReader
from toremi_cli.topics.cluster import build_clusters
from toremi_cli.topics.config import ClusterConfig
from toremi_cli.topics.kinds import UNKNOWN, apart, find_kinds, separation
from toremi_cli.topics.sample_view import SampleViews, ViewModel, lines_of, repeated_lines, script_of, share_repeated
from toremi_cli.topics.vectors import make_backend

LEAST = 10


def clouds(*centres, size=100, spread=0.3):
    """(num_samples, 3) numbers around each of the centres."""
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(centre, spread, (size, 3)) for centre in centres])


def test_samples_far_from_each_other_are_parted_and_one_cloud_is_not():
    numbers = clouds((5, 7, 0), (3, 4, 0), (7, 6, 0))
    parts = apart(numbers, np.arange(300), LEAST, seed=0)
    assert sorted(map(tuple, parts)) == [tuple(range(start, start + 100)) for start in (0, 100, 200)]
    for one in (clouds((5, 7, 0), size=400), np.random.default_rng(0).uniform(0, 4, (400, 3))):
        assert len(apart(one, np.arange(400), LEAST, seed=0)) == 1


def test_few_samples_are_no_kind_of_their_own():
    numbers = np.concatenate([clouds((5, 7, 0)), clouds((3, 4, 0), size=LEAST - 1)])
    assert [len(part) for part in apart(numbers, np.arange(109), LEAST, seed=0)] == [109]
    assert [len(part) for part in apart(numbers[:5], np.arange(5), LEAST, seed=0)] == [5]
    assert [len(part) for part in apart(numbers, np.arange(109), LEAST - 1, seed=0)] == [100, 9]


def test_separation_is_that_of_two_bell_curves():
    generator = np.random.default_rng(0)
    one, two = (generator.normal((centre, 0, 0), 1, (20_000, 3)) for centre in (0, 4))
    assert separation(one, two) == pytest.approx(4, rel=0.05)


def views(numbers, script="latin"):
    scripts = np.broadcast_to(np.array(script, dtype=object), len(numbers))
    return SampleViews(numbers[:, 0], numbers[:, 1], numbers[:, 2], scripts)


def test_probabilities_go_to_the_piece_that_a_sample_is_in():
    numbers = clouds((5, 7, 0), (3, 4, 0), (5, 7, 0))
    topic = np.repeat([0, 0, 1], 100)
    kinds = find_kinds(topic, views(numbers), 2, LEAST, seed=0)
    assert sorted(kinds.topic.tolist()) == [0, 0, 1] and sorted(kinds.name) == ["", "", "regular"]
    probs = np.tile([0.7, 0.3], (300, 1))
    divided, settled = kinds.divide(probs, np.full(300, True), views(numbers))
    assert settled.all() and np.allclose(divided.sum(axis=1), 1)
    of_topic_0 = [np.flatnonzero(divided[row] == np.float32(0.7)).item() for row in range(300)]
    assert len(set(of_topic_0[:100])) == 1 and set(of_topic_0[100:200]).isdisjoint(of_topic_0[:100])
    assert set(of_topic_0[200:]) == set(of_topic_0[:100]), "by its own view, whatever topic it is most likely of"


def test_where_nothing_falls_apart_nothing_is_cut():
    assert find_kinds(np.repeat([0, 1], 100), views(clouds((5, 7, 0), (3, 4, 0))), 2, LEAST, seed=0) is None


def test_samples_without_a_known_word_are_topics_of_their_own_if_they_are_enough():
    numbers = clouds((5, 7, 0), (5, 7, 0))
    script = ["latin"] * 100 + ["thai"] * 50 + ["arabic"] * 40 + ["none"] * 10
    topic = np.repeat([0, UNKNOWN], 100)
    kinds = find_kinds(topic, views(numbers, script), 1, LEAST, seed=0)
    assert sorted(kinds.name) == [
        "", "no known words, arabic script", "no known words, no letters", "no known words, thai script",
    ]  # fmt: skip
    divided, settled = kinds.divide(np.ones((200, 1)), topic != UNKNOWN, views(numbers, script))
    assert settled.all()
    names = np.array(kinds.name)[divided.argmax(axis=1)]
    assert (names[100:150] == "no known words, thai script").all() and (names[:100] == "").all()
    few = np.array([0] * 195 + [UNKNOWN] * 5)
    assert find_kinds(few, views(numbers), 1, LEAST, seed=0) is None


def test_scripts():
    assert [script_of(text) for text in ("12 %", "", "plain", "naïve café")] == ["none", "none", "latin", "latin"]
    assert script_of("日本語のテキストです") == script_of("中文") == "cjk"
    assert [script_of(text) for text in ("ภาษาไทย", "Привет, world", "العربية 2024")] == ["thai", "cyrillic", "arabic"]
    assert script_of("Ð\u009fÑ\u0080Ð¸Ð²ÐµÑ\u0082") == "latin", "mangled Russian isn't Russian"


def test_repeated_lines_are_those_of_several_texts_whatever_their_spaces():
    texts = [f"Home  |  About\nnews of day {number}\n\nHome | About" for number in range(3)]
    found = repeated_lines(texts)
    assert len(found) == 1 and lines_of(texts[0]) == ["Home | About", "news of day 0", "Home | About"]
    assert share_repeated(texts[0], found) == pytest.approx(24 / 37)
    assert share_repeated("Home | About", found) == 1 and share_repeated("", found) == 0
    assert len(repeated_lines(texts[:2])) == 0 and share_repeated(texts[0], repeated_lines(texts[:2])) == 0


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(news_articles()[:80], 1500, 100_000), folder, "x", END_OF_TEXT, {})
    return load_tokenizer(folder)


def test_a_sample_is_measured_by_itself_and_by_what_was_saved(tokenizer, tmp_path):
    texts = [*news_articles()[:60], "", "x", "1 2 3"]
    model = ViewModel.fit(texts[:50], tokenizer)
    whole = model.measure(texts, tokenizer)
    model.save(tmp_path)
    loaded = ViewModel.load(tmp_path)
    for row in (0, 55, 60, 61, 62):
        alone = loaded.measure(texts[row : row + 1], tokenizer)
        assert alone.numbers()[0].tolist() == whole.numbers()[row].tolist() and alone.script[0] == whole.script[row]
    assert np.isfinite(whole.numbers()).all()
    assert (whole.ngram[:60] < whole.shuffled[:60]).all(), "the order of text tells something"
    assert ViewModel.fit([], tokenizer).measure(["any"], tokenizer).ngram[0] > 0


def encoded_files(count):
    generator = np.random.default_rng(0)
    return [base64.encodebytes(generator.bytes(700)).decode() for _ in range(count)]


THAI = "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอนหรือวรรณยุกต์เช่นเดียวกับภาษาจีน"
"""Thai without spaces; the vocabulary is told nothing of it below."""


def test_encoded_files_and_another_script_come_out_of_a_corpus_of_news(tmp_path):
    texts = [*news_articles()[:100], *encoded_files(60)]
    texts += ["".join(np.random.default_rng(n).permutation(list(THAI)).tolist()) for n in range(20)]
    kinds = ["news"] * 100 + ["encoded"] * 60 + ["thai"] * 20
    order = np.random.default_rng(0).permutation(len(texts))
    texts, kinds = [texts[i] for i in order], np.array([kinds[i] for i in order])
    backend = make_backend("doc2vec", dim=30, seed=0)
    backend.fit([text for text, kind in zip(texts, kinds, strict=True) if kind == "news"])
    tables = {}
    for cut in (True, False):
        workdir = Workdir(tmp_path / str(cut))
        write_tables(workdir, texts, kinds.tolist(), backend.encode(texts))
        save_tokenizer(train_tokenizer(texts, 1500, 100_000), workdir.tokenizer, "x", END_OF_TEXT, {})
        manifest = build_clusters(workdir, ClusterConfig(num_topics=2, min_topic_samples=10, cut_kinds=cut, workers=1))
        topics = TableReader(workdir.topics, TOPICS).read().to_pylist()
        tables[cut] = TableReader(workdir.clusters, CLUSTERS).read(), topics
    rows, topics = tables[True]
    topic = rows["topic"].to_numpy()
    for kind in ("encoded", "thai"):
        of_kind = kinds == kind
        pure = [k for k in range(len(topics)) if of_kind[topic == k].mean() > 0.9]
        assert np.isin(topic[of_kind], pure).mean() > 0.8, (kind, [row["name"] for row in topics])
        assert (topic[of_kind] != NO_TOPIC).all()
    assert any("thai script" in row["kind"] for row in topics)
    assert rows["script"].to_pylist().count("thai") == 20
    whole, topics = tables[False]
    assert len(topics) <= 2 and "kind" not in topics[0]
    unknown = whole["agreement"].to_numpy() == 0
    assert (
        manifest["num_without_known_words"] == unknown.sum() > 0
        and (whole["topic"].to_numpy()[unknown] == NO_TOPIC).all()
    )
    assert pq.read_schema(tmp_path / "True" / "clusters" / "part-00000.parquet").field("ngram_entropy").type == "float"
