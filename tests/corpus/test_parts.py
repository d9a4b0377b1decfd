"""A corpus in several parts: what comes out is that of one part, on any number of processes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.corpus.test_stage import build, write_corpus
from tests.realtext import news_articles
from tests.shell import environment
from toremi_cli.corpus import byte_ranges
from toremi_cli.corpus import parts as corpus_parts
from toremi_cli.corpus.byte_ranges import cut_file
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.json_values import json_lines
from toremi_cli.corpus.listing import CorpusFile, filesystem_of, list_corpus
from toremi_cli.corpus.opening import open_bytes
from toremi_cli.corpus.parts import note_of_slow_file, part_files
from toremi_cli.corpus.split import CutFinder
from toremi_cli.corpus.stage import build_samples
from toremi_cli.errors import CorpusError, TableError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.schemas import SAMPLES
from toremi_cli.tables import TableReader

FACTS = ("overlap", "sources", "totals", "num_documents_read", "num_empty_texts", "num_skipped", "num_rows")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six files: texts that repeat within one and across them, small sources, a file of nothing new, blanks."""
    texts = news_articles()
    return write_corpus(
        tmp_path_factory.mktemp("parts") / "c",
        a=[*texts[:80], *texts[:5], ""],
        b=[*texts[60:120], "Only here."],
        c=texts[120:126],
        d=texts[:40],
        e=[*texts[126:150], "  "],
        f=["One more.", texts[3], texts[130]],
    )


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    return build(corpus, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def many_parts(monkeypatch):
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 60_000)


def build_with(corpus, root, workers, **config):
    manifest = build_samples(str(corpus), Workdir(root), CorpusConfig(vocab_size=600, max_tokens=64, **config),
                             workers=workers)  # fmt: skip
    return manifest, TableReader(Workdir(root).samples, SAMPLES).read().to_pylist()


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_make_what_the_whole_makes(corpus, whole, tmp_path, many_parts, workers):
    manifest, rows = build_with(corpus, tmp_path, workers)
    assert manifest["num_shards"] >= 3 > whole[0]["num_shards"]
    assert rows == whole[1], "texts, ids, splits and tokens, in the same order"
    for fact in FACTS:
        assert manifest[fact] == whole[0][fact], fact
    assert manifest["sources"]["d"]["documents"] == 0 < manifest["sources"]["d"]["duplicates"]
    assert not (tmp_path / "samples" / "_parts").exists()


def test_shards_within_parts_are_bounded(corpus, whole, tmp_path, many_parts):
    manifest, rows = build_with(corpus, tmp_path, 1, shard_samples=30)
    assert manifest["num_shards"] > 10 and rows == whole[1]


def test_a_repeated_id_in_another_part_names_both_places(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 10)
    folder = tmp_path / "c"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.jsonl").write_text(
            f'{{"id": "{name}", "text": "x {name}"}}\n{{"id": 2, "text": "{name}"}}\n'
        )
    with pytest.raises(CorpusError, match=r"b.jsonl:2: id '2' again, first at .*a.jsonl:2; .*--id-field none"):
        build(folder, tmp_path / "out")


def test_broken_lines_of_all_parts_are_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 10)
    texts = news_articles()
    folder = write_corpus(tmp_path / "c", a=texts[:30], b=texts[30:60])
    for name in "ab":
        with (folder / f"{name}.jsonl").open("a") as file:
            file.write("{broken\n")
    with pytest.raises(CorpusError, match=r"[ab].jsonl:31: not valid JSON"):
        build_with(folder, tmp_path / "out", 2)
    manifest, _ = build_with(folder, tmp_path / "out", 2, on_error="skip")
    assert manifest["num_skipped"] == 2
    assert "skipped 2 broken lines or files; the first: " in capsys.readouterr().err


PIECE = "part-00000.parquet"


@pytest.mark.parametrize(
    ("workers", "awaited"),
    [
        (1, "_parts/00000/scan.json"),
        (1, f"_parts/00001/{PIECE}"),
        (2, f"_parts/*/{PIECE}"),
        (1, "part-00001.parquet"),
    ],
)
def test_a_killed_run_goes_on_where_it_stopped(corpus, whole, tmp_path, many_parts, workers, awaited):
    settings = [str(workers), "30", str(corpus_parts.PART_BYTES)]
    arguments = [sys.executable, "-m", "tests.corpus.killed", str(corpus), str(tmp_path / "out"), *settings]
    process = subprocess.Popen(arguments, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True)
    samples = tmp_path / "out" / "samples"
    deadline = time.monotonic() + 60
    while not list(samples.glob(awaited)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    assert list(samples.glob(awaited))
    manifest, rows = build_with(corpus, tmp_path / "out", 1, shard_samples=30)
    assert rows == whole[1]
    for fact in FACTS:
        assert manifest[fact] == whole[0][fact], fact


@pytest.mark.parametrize("what", ["damaged", "lost"])
def test_a_piece_that_does_not_stand_is_cut_anew(corpus, whole, tmp_path, many_parts, what):
    in_the_way = tmp_path / "samples" / PIECE
    in_the_way.mkdir(parents=True)
    with pytest.raises(IsADirectoryError):  # all is cut, and nothing is a shard yet
        build_with(corpus, tmp_path, 1)
    in_the_way.rmdir()
    part = tmp_path / "samples" / "_parts" / "00000"
    piece = part / PIECE
    if what == "damaged":
        piece.write_bytes(piece.read_bytes()[:100])
    else:
        piece.unlink()
        with pytest.raises(TableError, match="is damaged; run the same command again to make it anew"):
            build_with(corpus, tmp_path, 1)
    manifest, rows = build_with(corpus, tmp_path, 1)
    assert rows == whole[1]
    for fact in FACTS:
        assert manifest[fact] == whole[0][fact], fact


def test_a_change_of_the_corpus_forgets_the_parts(corpus, tmp_path, many_parts, whole):
    changed = tmp_path / "c"
    changed.mkdir()
    for path in corpus.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    with (changed / "f.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(CorpusError, match=r"f.jsonl:4"):
        build(changed, tmp_path / "out")
    assert json.loads((tmp_path / "out/samples/_parts/00000/scan.json").read_text())["num_documents"] > 0
    (changed / "f.jsonl").write_bytes((corpus / "f.jsonl").read_bytes())
    assert build(changed, tmp_path / "out")[1] == whole[1]


def test_no_such_engine(corpus, tmp_path):
    with pytest.raises(UsageError, match="--engine dask: expected one of local, ray"):
        build_samples(str(corpus), Workdir(tmp_path), CorpusConfig(), engine="dask")


@pytest.fixture(scope="module")
def one_file(tmp_path_factory):
    """All in one file: without ids, so that these are lines' numbers; an empty line, and one as long as many others."""
    folder = tmp_path_factory.mktemp("one")
    texts = news_articles()
    lines = [json.dumps({"text": text}) for text in (*texts[:90], "\n".join(texts[90:140]), *texts[140:200])]
    (folder / "all.jsonl").write_text("\n".join([*lines[:50], "", *lines[50:], "{broken"]))
    return folder


def test_a_huge_file_is_cut_and_comes_out_the_same(one_file, tmp_path, monkeypatch):
    manifest, rows = build_with(one_file, tmp_path / "whole", 1, on_error="skip")
    assert manifest["num_shards"] == 1 and manifest["num_skipped"] == 1
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 50_000)
    cut, cut_rows = build_with(one_file, tmp_path / "cut", 2, on_error="skip")
    assert cut["num_shards"] > 3 and cut_rows == rows
    assert all(cut[fact] == manifest[fact] for fact in FACTS)
    with pytest.raises(CorpusError, match=r"all.jsonl:153: not valid JSON"):
        build_with(one_file, tmp_path / "fail", 2)


def test_ranges_hold_each_line_once(tmp_path, monkeypatch):
    monkeypatch.setattr(byte_ranges, "READ_BYTES", 7)
    path = tmp_path / "a.jsonl"
    lines = [b'{"text": "%d"}' % n for n in range(40)]
    lines[9] = b""
    path.write_bytes(b"\n".join(lines))
    (file,) = list_corpus(str(path)).files
    filesystem = filesystem_of(str(path))
    for size in (1, 20, 33, 100, 200):
        found = []
        for piece in cut_file(filesystem, file, size):
            with open_bytes(filesystem, piece) as stream:
                found += [(number + piece.lines_before, row["text"]) for number, row in json_lines(stream, "a", None)]
        assert found == [(n + 1, str(n)) for n in range(40) if n != 9]
    assert len(cut_file(filesystem, file, 1)) == 39
    assert cut_file(filesystem, file, 300) == [file], "small"


def test_what_is_no_object_a_line_is_not_cut(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "a"}, {"text": "b"}], indent=1))
    (file,) = list_corpus(str(path)).files
    assert cut_file(filesystem_of(str(path)), file, 4) == [file]
    assert cut_file(filesystem_of(str(path)), replace(file, compression="gz"), 4) == [replace(file, compression="gz")]


def file_of(name, size, compression=None):
    return CorpusFile(name, name, "jsonl", compression, size, "", name, "s")


def test_files_are_grouped_in_their_order():
    sizes = [30, 30, 30, 200, 1, 1]
    files = [file_of(str(number), size * 1_000_000) for number, size in enumerate(sizes)]
    assert [[file.name for file in part] for part in part_files(files)] == [["0", "1"], ["2"], ["3"], ["4", "5"]]
    compressed = [file_of(str(number), 10_000_000, "zst") for number in range(3)]
    assert [len(part) for part in part_files(compressed)] == [1, 1, 1]


def test_a_huge_corpus_has_no_more_parts(monkeypatch):
    monkeypatch.setattr(corpus_parts, "MOST_PARTS", 4)
    parts = part_files([file_of(str(number), 50_000_000) for number in range(100)])
    assert 4 <= len(parts) <= 5 and sum(map(len, parts)) == 100


@pytest.mark.parametrize("holdout", [0.0, 0.01, 0.3, 0.5])
def test_many_hashes_at_once_are_seen_as_one_by_one(holdout):
    values = np.random.default_rng(0).integers(0, 2**64, 60, dtype=np.uint64)
    one_by_one, at_once = CutFinder(holdout, 2), CutFinder(holdout, 2)
    for value in values.tolist():
        one_by_one.add(value)
    for some in np.split(values, [0, 7, 8, 40]):
        at_once.add_all(some)
    assert at_once.cuts() == one_by_one.cuts() and at_once.count == 60


def test_a_file_that_one_process_is_busy_with_for_hours_is_told():
    def file(name, gigabytes, compression=None):
        return CorpusFile(name, name, "json", compression, int(gigabytes * 1e9), "", name, "s")

    large, small = file("all.jsonl.gz", 12.5, "gz"), [file(f"{n}.jsonl", 1) for n in range(50)]
    assert note_of_slow_file([large, *small], 16) == (
        "all.jsonl.gz (gz): 50 GB of text in one file, which one process reads in about 9.3 hours, "
        "long after the other 15 have ended; split it, or unpack it"
    )
    assert note_of_slow_file([file("all.jsonl", 50), *small], 16) is None, "it is cut"
    assert note_of_slow_file([large, *small], 4) is None, "the others are no faster"
    assert note_of_slow_file([large, *small], 1) is None
    assert note_of_slow_file(small, 64) is None, "an hour at most"
