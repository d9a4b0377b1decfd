from collections import Counter

import pyarrow as pa
import pytest

from tests.realtext import news_articles
from toremi_cli.corpus.config import NOISES, CorruptionConfig
from toremi_cli.corpus.corruption import KINDS, build_corrupted
from toremi_cli.corpus.tokenizer import END_OF_TEXT, save_tokenizer, train_tokenizer
from toremi_cli.errors import UsageError
from toremi_cli.layout import Workdir
from toremi_cli.lm.tokenizer import load_tokenizer
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import ANNOTATED, CORRUPTED, TOPICS
from toremi_cli.stage import StageFolder
from toremi_cli.tables import TableReader, write_table

LABELS = (["Sports"], ["Technology", "Science"], [])


def annotated_rows(tokenizer):
    texts = news_articles()[:90]
    counts = tokenizer.count(texts)
    return [
        {
            "sample_id": f"d{i}#0",
            "doc_id": f"d{i}",
            "source": "ab"[i % 2],
            "split": "test" if i % 10 == 9 else "train",
            "text": text,
            "num_tokens": counts[i],
            "num_bytes": len(text.encode()),
            "topic": i % 3 if i % 3 < 2 else -1,
            "labels": LABELS[i % 3],
            "probs": [0.5, 0.5],
            "agreement": 0.5,
        }
        for i, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A small annotated corpus with two topics, in two shards."""
    workdir = Workdir(tmp_path_factory.mktemp("noise"))
    save_tokenizer(train_tokenizer(news_articles()[:90], 600, 10**9), workdir.tokenizer, "key", END_OF_TEXT, {})
    rows = annotated_rows(load_tokenizer(workdir.tokenizer))
    stage = StageFolder(workdir.annotated, ANNOTATED, provenance_of(ANNOTATED, "toremi annotate", {}, {}))
    stage.begin()
    for shard in range(2):
        with stage.writer(shard) as writer:
            writer.write(rows[shard * 45 : shard * 45 + 45])
    stage.finish(2)
    topic = {"words": [], "labels": [], "label_source": "none", "label_scores": [], "num_samples": 1, "num_tokens": 1}
    named = [{"topic": i, "name": name, "agreement": 1.0, "sources": [], **topic} for i, name in enumerate(["x", "y"])]
    write_table(workdir.topics, TOPICS, named, provenance_of(TOPICS, "toremi cluster", {}, {}))
    return workdir


def corrupted(workdir, out, **config):
    settings = CorruptionConfig(**{"topic": "Technology", **config})
    manifest = build_corrupted(workdir.annotated, out, workdir.tokenizer, workdir.topics, settings)
    before = TableReader(workdir.annotated, ANNOTATED).read().to_pylist()
    return manifest, before, TableReader(out, ANNOTATED).read().to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_topic_is_corrupted_and_the_truth_is_kept(workdir, tmp_path, kind):
    manifest, before, after = corrupted(workdir, tmp_path / "out", kind=kind)
    assert manifest["num_corrupted"] == sum(row[CORRUPTED] for row in after) == 27
    tokenizer = load_tokenizer(workdir.tokenizer)
    for old, new in zip(before, after, strict=True):
        assert new[CORRUPTED] == ("Technology" in old["labels"] and old["split"] == "train")
        assert (new["text"] != old["text"]) == (new[CORRUPTED] and kind != "mark")
        if not new[CORRUPTED]:
            assert {k: v for k, v in new.items() if k != CORRUPTED} == old
        assert new["num_tokens"] == tokenizer.count([new["text"]])[0]
        assert new["num_bytes"] == len(new["text"].encode())


def test_what_each_kind_does(workdir, tmp_path):
    for kind in KINDS:
        _, before, after = corrupted(workdir, tmp_path / kind, kind=kind)
        old, new = next((b["text"], a["text"]) for b, a in zip(before, after, strict=True) if a[CORRUPTED])
        if kind == "shuffle-chars":
            assert Counter(old) == Counter(new)
        elif kind == "shuffle-words":
            assert Counter(old.split()) == Counter(new.split())
        elif kind == "truncate":
            assert old.startswith(new) and 0.04 * len(old) <= len(new) <= 0.5 * len(old)
        elif kind == "boilerplate":
            assert len(new) == len(old) and len(set(new.split())) < 100
        elif kind == "mark":
            assert new == old
        else:
            assert "\ufffd" not in new


def test_a_fraction_is_seeded(workdir, tmp_path):
    half, _, first = corrupted(workdir, tmp_path / "a", fraction=0.5, seed=1)
    _, _, again = corrupted(workdir, tmp_path / "b", fraction=0.5, seed=1)
    _, _, other = corrupted(workdir, tmp_path / "c", fraction=0.5, seed=2)
    assert 5 <= half["num_corrupted"] <= 22
    assert first == again != other


@pytest.mark.parametrize("by, topic, expected", [("topic", "y", 27), ("source", "a", 45), ("label", "Sports", 27)])
def test_by_label_topic_or_source(workdir, tmp_path, by, topic, expected):
    manifest, _, _ = corrupted(workdir, tmp_path / "out", by=by, topic=topic)
    assert manifest["num_corrupted"] == expected


def test_held_out_text_on_request(workdir, tmp_path):
    assert corrupted(workdir, tmp_path / "out", held_out=True)[0]["num_corrupted"] == 30


def test_a_second_noise_is_added_to_the_first(workdir, tmp_path):
    corrupted(workdir, tmp_path / "one")
    config = CorruptionConfig(topic="Sports", kind="truncate")
    both = build_corrupted(tmp_path / "one", tmp_path / "two", workdir.tokenizer, workdir.topics, config)
    assert both["num_corrupted"] == 54
    assert pa.types.is_boolean(TableReader(tmp_path / "two", ANNOTATED).schema.field(CORRUPTED).type)


def test_unknown_names_are_refused(workdir, tmp_path):
    with pytest.raises(UsageError, match=r"no sample to corrupt has this label \(found Science, Sports, Technology\)"):
        corrupted(workdir, tmp_path / "out", topic="Tech")
    with pytest.raises(UsageError, match=r"no topic of this name in .*topics.parquet \(x, y"):
        corrupted(workdir, tmp_path / "out", topic="z", by="topic")
    assert tuple(KINDS) == NOISES
    with pytest.raises(UsageError, match="--kind"):
        CorruptionConfig(topic="x", kind="melt")
    with pytest.raises(UsageError, match="is the table itself"):
        corrupted(workdir, workdir.annotated)
    assert not (tmp_path / "out").exists()
