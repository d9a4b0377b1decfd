import json
import subprocess
import sys
from pathlib import Path

import pytest
from examples.harvest_corpus.installed import Source
from examples.harvest_corpus.leftovers import LEFTOVERS
from examples.harvest_corpus.prose_and_code import PROSE_AND_CODE, licences

ROOT = Path(__file__).parents[2]
IN_PIECES = {source.name for source in (*PROSE_AND_CODE, *LEFTOVERS) if source.in_pieces}
CLEAN = [source.name for source in PROSE_AND_CODE]
MEGABYTES = 3


def harvest(*options):
    command = [sys.executable, "-m", "examples.harvest_corpus", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def rows_of(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def num_bytes(rows):
    return sum(len(row["text"].encode()) for row in rows)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    process = harvest(folder, "--megabytes", MEGABYTES)
    assert process.returncode == 0, process.stderr
    return folder, process.stdout


def test_real_text_of_ten_clean_sources_and_a_third_of_other_things(corpus):
    folder, printed = corpus
    found = {file.stem: rows_of(file) for file in sorted(folder.glob("*.jsonl"))}
    assert set(CLEAN) <= set(found)
    assert len(set(found) - set(CLEAN)) >= 6
    for name, rows in found.items():
        assert {row["source"] for row in rows} == {name}
        assert len({row["text"] for row in rows}) == len(rows)
        assert f"{name:<16}{len(rows):>10,}" in printed
    ids = [row["id"] for rows in found.values() for row in rows]
    assert len(set(ids)) == len(ids)
    total = sum(map(num_bytes, found.values()))
    assert 0.8 * MEGABYTES * 1e6 < total <= MEGABYTES * 1e6
    assert 0.25 <= 1 - sum(num_bytes(found[name]) for name in CLEAN) / total <= 0.35


def test_pieces_share_their_group(corpus):
    folder, _ = corpus
    for file in folder.glob("*.jsonl"):
        rows = rows_of(file)
        groups = {row["group"] for row in rows}
        if file.stem in IN_PIECES:
            assert len(groups) < len(rows), file
            assert all(row["id"].startswith(row["group"] + "/") for row in rows)
        else:
            assert len(groups) == len(rows), file


def test_again_the_same_files_and_marked_or_without_the_others(corpus, tmp_path):
    folder, _ = corpus
    marked, clean = tmp_path / "marked", tmp_path / "clean"
    assert harvest(marked, "--megabytes", MEGABYTES, "--mark", "junk_").returncode == 0
    assert harvest(clean, "--megabytes", 1, "--clean").returncode == 0
    for file in folder.glob("*.jsonl"):
        if file.stem in CLEAN:
            assert (marked / file.name).read_bytes() == file.read_bytes()
        else:
            (twin,) = marked.glob(f"junk_{file.name}")
            assert [row["text"] for row in rows_of(twin)] == [row["text"] for row in rows_of(file)]
    assert {file.stem for file in clean.iterdir()} == set(CLEAN)


def test_what_is_clean_can_be_asked_for_and_nothing_else_is_missing():
    assert harvest("--list").stdout.strip().split(",") == CLEAN
    process = harvest()
    assert process.returncode == 2
    assert "name the folder" in process.stderr


def test_no_two_licences_share_an_id_however_many_are_taken():
    """Which of them reach the corpus depends on what else is installed: it is cut off at some size."""
    ids = [name for name, _ in licences()]
    assert len(set(ids)) == len(ids) > 100


@pytest.mark.parametrize("source", LEFTOVERS, ids=lambda source: source.name)
def test_each_kind_of_leftovers_is_found(source: Source):
    texts = [text for _, text in source.documents()]
    assert sum(map(len, texts)) > 50_000
