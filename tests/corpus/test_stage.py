import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pyarrow.parquet as pq
import pytest

from tests.realtext import news_articles
from tests.shell import environment
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.parts import PART_BYTES
from toremi_cli.corpus.stage import build_samples
from toremi_cli.errors import CorpusError, TableError
from toremi_cli.layout import Workdir
from toremi_cli.schemas import SAMPLES
from toremi_cli.stage import HUB_CARD
from toremi_cli.tables import MANIFEST, TableReader

SMALL = {"vocab_size": 600, "max_tokens": 64}


def write_corpus(folder, **sources):
    """One jsonl file a source."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in sources.items():
        lines = [json.dumps({"id": f"{name}-{i}", "text": text}) for i, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def build(corpus, root, **config):
    workdir = Workdir(root)
    manifest = build_samples(str(corpus), workdir, CorpusConfig(**{**SMALL, **config}))
    return manifest, TableReader(workdir.samples, SAMPLES).read().to_pylist()


@pytest.fixture(scope="module")
def news(tmp_path_factory):
    texts = news_articles()
    return write_corpus(
        tmp_path_factory.mktemp("news") / "c", a=texts[:60], b=texts[60:90], c=texts[90:100], d=["One."]
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def built(news, root):
    return build(news, root)


def test_documents_come_back_whole_and_in_order(built):
    documents = {}
    for row in built[1]:
        documents.setdefault(row["doc_id"], []).append(row)
    whole = {
        doc_id: "".join(row["text"] for row in rows)
        for doc_id, rows in documents.items()
        if [int(row["sample_id"].rpartition("#")[2]) for row in rows] == list(range(len(rows)))
    }
    original = {f"a-{i}": text for i, text in enumerate(news_articles()[:60])}
    assert len(whole) > 90, "only a few articles share their beginning with another"
    assert all(
        text == original[doc_id] or original[doc_id].startswith(text) for doc_id, text in whole.items() if "a" in doc_id
    )
    assert sum(whole.get(doc_id) == text for doc_id, text in original.items()) >= 58
    assert list(documents) == sorted(documents, key=lambda doc_id: (doc_id[0], int(doc_id[2:])))
    assert whole["d-0"] == "One."


def test_rows_are_consistent(built, root):
    from toremi_cli.lm.tokenizer import load_tokenizer

    _, rows = built
    tokenizer = load_tokenizer(root / "tokenizer")
    assert tokenizer.count([row["text"] for row in rows]) == [row["num_tokens"] for row in rows]
    assert all(row["num_tokens"] <= 64 and row["num_bytes"] == len(row["text"].encode()) for row in rows)
    assert len({row["sample_id"] for row in rows}) == len(rows)
    assert {row["sample_id"].rpartition("#")[0] for row in rows} == {row["doc_id"] for row in rows}
    assert Counter(row["source"] for row in rows).keys() == {"a", "b", "c", "d"}


def test_held_out_split_has_a_floor_per_source(built):
    splits = {source: Counter() for source in "abcd"}
    documents = {source: {} for source in "abcd"}
    for row in built[1]:
        splits[row["source"]][row["split"]] += 1
        documents[row["source"]].setdefault(row["doc_id"], set()).add(row["split"])
    for source in "ab":  # by document
        assert all(len(found) == 1 for found in documents[source].values())
        by_split = Counter(next(iter(found)) for found in documents[source].values())
        assert by_split["validation"] >= 2 and by_split["test"] >= 2
        assert by_split["train"] >= 20
    assert splits["c"]["validation"] >= 1 and splits["c"]["test"] >= 1, "ten documents: by sample"
    assert splits["d"] == {"train": 1}


def test_the_split_ignores_other_sources_order_and_seed(built, tmp_path):
    texts = news_articles()
    folder = write_corpus(tmp_path / "c", b=texts[60:90])
    lines = (folder / "b.jsonl").read_text().splitlines()
    (folder / "b.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    _, rows = build(folder, tmp_path / "out", seed=5, vocab_size=300)
    ours = {row["doc_id"]: row["split"] for row in rows}
    assert ours == {row["doc_id"]: row["split"] for row in built[1] if row["source"] == "b"}


def test_counts_in_the_manifest(built):
    manifest, rows = built
    for source, counts in manifest["sources"].items():
        mine = [row for row in rows if row["source"] == source]
        assert counts["samples"] == len(mine) and counts["tokens"] == sum(row["num_tokens"] for row in mine)
        assert counts["documents"] == len({row["doc_id"] for row in mine})
        for split, part in counts["splits"].items():
            of_split = [row for row in mine if row["split"] == split]
            assert part["samples"] == len(of_split) and part["bytes"] == sum(row["num_bytes"] for row in of_split)
            assert part["documents"] == len({row["doc_id"] for row in of_split})
    assert manifest["totals"]["samples"] == len(rows) == manifest["num_rows"]


def test_duplicates_are_dropped_and_never_cross_the_split(tmp_path):
    texts = news_articles()[:40]
    corpus = write_corpus(tmp_path / "c", a=texts + texts[:10], b=texts[::-1] + news_articles()[40:70])
    manifest, rows = build(corpus, tmp_path / "out")
    assert len({row["text"] for row in rows}) == len(rows)
    assert manifest["sources"]["a"]["documents"] == 40 and manifest["sources"]["b"]["documents"] == 30
    assert manifest["sources"]["b"]["duplicates"] >= 40
    for source in "ab":
        for split in ("validation", "test"):
            assert manifest["sources"][source]["splits"][split]["documents"] >= 2, "duplicates don't fill the floor"


def test_a_corpus_of_equal_documents(tmp_path, capsys):
    manifest, rows = build(write_corpus(tmp_path / "c", a=["The same text."] * 50), tmp_path / "out")
    assert len(rows) == 1 and rows[0]["split"] == "train"
    assert manifest["sources"]["a"]["duplicates"] == 49
    assert "too small to hold anything out: a" in capsys.readouterr().err


def test_one_document_only(tmp_path):
    (tmp_path / "book.txt").write_text("\n\n".join(news_articles()[:30]))
    _, rows = build(tmp_path / "book.txt", tmp_path / "out")
    assert "".join(row["text"] for row in rows) == "\n\n".join(news_articles()[:30])
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    assert rows[0]["sample_id"] == "book.txt#0" and rows[0]["source"] == "book"


def test_no_holdout_and_too_much(tmp_path):
    corpus = write_corpus(tmp_path / "c", a=news_articles()[:30])
    _, rows = build(corpus, tmp_path / "out", holdout=0.0)
    assert {row["split"] for row in rows} == {"train"}


def test_a_large_document_in_one_line(tmp_path):
    text = " ".join(" ".join(news_articles()).split())
    text = (text + " ") * (1_500_000 // len(text))
    corpus = write_corpus(tmp_path / "c", huge=[text], blob=["QUJD" * 100_000])
    manifest, rows = build(corpus, tmp_path / "out", max_tokens=512)
    assert manifest["sources"]["huge"]["duplicates"] == 0 or manifest["sources"]["huge"]["samples"] > 100
    assert all(row["num_tokens"] <= 512 for row in rows)


def test_empty_and_broken_are_counted(tmp_path, capsys):
    corpus = write_corpus(tmp_path / "c", a=[*news_articles()[:25], "", "  "])
    with (corpus / "a.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(CorpusError, match=r"a.jsonl:28: not valid JSON"):
        build(corpus, tmp_path / "out")
    manifest, _ = build(corpus, tmp_path / "out", on_error="skip")
    assert manifest["num_skipped"] == 1 and manifest["num_empty_texts"] == 2
    assert "skipped 1 broken lines or files; the first: " in capsys.readouterr().err


def test_no_text_at_all(tmp_path):
    with pytest.raises(CorpusError, match=r"no text in 1 files \(2 empty documents, 0 skipped\)"):
        build(write_corpus(tmp_path / "c", a=["", " "]), tmp_path / "out")


def test_repeated_ids_name_both_places(tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.jsonl").write_text(f'{{"id": 1, "text": "one {name}"}}\n{{"id": 2, "text": "two {name}"}}\n')
    with pytest.raises(CorpusError, match=r"b.jsonl:1: id '1' again, first at .*a.jsonl:1; .*--id-field none"):
        build(folder, tmp_path / "out")
    _, rows = build(folder, tmp_path / "out", id_field="none")
    assert [row["doc_id"] for row in rows] == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1", "b.jsonl:2"]


def test_a_rerun_does_nothing_and_a_change_says_why(news, tmp_path, capsys):
    build(news, tmp_path)
    stamp = (tmp_path / "samples" / "part-00000.parquet").stat().st_mtime_ns
    tokenizer = (tmp_path / "tokenizer" / "tokenizer.json").stat().st_mtime_ns
    touched = (tmp_path / "samples" / MANIFEST).stat().st_mtime_ns
    capsys.readouterr()
    build(news, tmp_path)
    assert "up to date" in capsys.readouterr().err
    assert (tmp_path / "samples" / "part-00000.parquet").stat().st_mtime_ns == stamp
    assert (tmp_path / "samples" / MANIFEST).stat().st_mtime_ns > touched, "make sees it newer"
    build(news, tmp_path, shard_samples=500)
    assert "shard_samples was 50000, is 500" in capsys.readouterr().err
    assert (tmp_path / "tokenizer" / "tokenizer.json").stat().st_mtime_ns == tokenizer, "only what is stale is redone"


def test_a_file_is_judged_by_its_contents_where_its_time_is_another(news, tmp_path, capsys):
    corpus = shutil.copytree(news, tmp_path / "c")
    _, rows = build(corpus, tmp_path / "out")
    capsys.readouterr()
    for _ in range(2):
        os.utime(corpus / "a.jsonl", ns=(1, 1))
        build(corpus, tmp_path / "out")
        assert "up to date" in capsys.readouterr().err
    text = (corpus / "a.jsonl").read_text()
    (corpus / "a.jsonl").write_text(text.replace(" the ", " eht "))  # the same size
    changed = build(corpus, tmp_path / "out")[1]
    assert "corpus changed" in capsys.readouterr().err
    assert changed != rows
    (corpus / "a.jsonl").write_text(text)
    assert build(corpus, tmp_path / "out")[1] == rows
    assert "corpus changed" in capsys.readouterr().err, "compared with what was there last, not with the first"


def test_shards_are_bounded_and_the_contents_are_the_same(built, news, tmp_path):
    manifest, rows = build(news, tmp_path, shard_samples=50)
    assert manifest["num_shards"] > 5
    assert rows == built[1]


def test_a_lost_tokenizer_comes_back(news, tmp_path):
    build(news, tmp_path)
    before = (tmp_path / "tokenizer" / "tokenizer.json").read_bytes()
    shutil.rmtree(tmp_path / "tokenizer")
    build(news, tmp_path)
    assert (tmp_path / "tokenizer" / "tokenizer.json").read_bytes() == before


def test_a_named_tokenizer_is_used(built, root, news, tmp_path):
    _, rows = build(news, tmp_path, tokenizer=str(root / "tokenizer"))
    assert rows == built[1]
    with pytest.raises(CorpusError, match=r"--tokenizer \./nothing/here"):
        build(news, tmp_path, tokenizer="./nothing/here")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_where_it_stopped(tmp_path, how, capsys):
    articles = news_articles()
    corpus = write_corpus(tmp_path / "c", a=articles[:150] + articles[:20], b=[*articles[100:], "x y z. " * 60_000])
    expected, expected_rows = build(corpus, tmp_path / "whole", shard_samples=40)
    settings = ["1", "40", str(PART_BYTES)]
    arguments = [sys.executable, "-m", "tests.corpus.killed", str(corpus), str(tmp_path / "out"), *settings]
    process = subprocess.Popen(arguments, env=environment(), stderr=subprocess.DEVNULL)
    samples = tmp_path / "out" / "samples"
    part = samples / "_parts" / "00000"
    deadline = time.monotonic() + 300
    while not (part / "part-00002.parquet").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(how)
    process.wait(60)
    progress = json.loads((part / "progress.json").read_text())
    assert len(progress["pieces"]) >= 2 and not progress["finished"]
    first = (part / "part-00000.parquet").stat()
    manifest, rows = build(corpus, tmp_path / "out", shard_samples=40)
    assert f"going on after {len(progress['pieces'])} finished shards" in capsys.readouterr().err
    assert (samples / "part-00000.parquet").stat().st_mtime_ns == first.st_mtime_ns
    assert rows == expected_rows
    for key in ("sources", "totals", "num_shards", "num_documents_read"):
        assert manifest[key] == expected[key]
    hidden = [path for path in samples.glob(".*") if path.name != HUB_CARD]
    assert not hidden and not (samples / "_parts").exists(), "nothing half-made is left"


def test_a_damaged_shard_is_made_again(news, tmp_path):
    _, rows = build(news, tmp_path, shard_samples=50)
    last = max((tmp_path / "samples").glob("part-*"))
    data = last.read_bytes()
    last.write_bytes(data[:100])
    assert build(news, tmp_path, shard_samples=50)[1] == rows
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "samples").glob("part-*")}
    (tmp_path / "samples" / MANIFEST).unlink()
    assert build(news, tmp_path, shard_samples=50)[1] == rows
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "samples").glob("part-*")} == stamps


def test_other_peoples_files_are_not_overwritten(news, tmp_path):
    import pyarrow as pa

    (tmp_path / "samples").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "samples" / "mine.parquet")
    with pytest.raises(TableError, match="toremi did not write"):
        build(news, tmp_path)
