"""The token cache: what the trainer reads equals what the table says."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from tests.shell import toremi
from toremi_cli.errors import TrainingError
from toremi_cli.files import write_json
from toremi_cli.lm.fingerprint import corpus_fingerprint
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import ANNOTATED, TRAIN, VALIDATION
from toremi_cli.tables import MANIFEST, TableReader, shard_name, write_table
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.index_folder import open_index
from toremi_cli.train.policy import build_policy
from toremi_cli.train.start import _make_tokens
from toremi_cli.train.tokenizing import ARRAYS, ShardWriter, part_of, parts_of
from toremi_cli.train.tokens import open_cache


@pytest.fixture(scope="module")
def rows(workdir):
    return TableReader(workdir / "annotated", ANNOTATED).read().to_pylist()


def topics_of(pairs, sample):
    begin, end = pairs.indptr[sample], pairs.indptr[sample + 1]
    return {pairs.names[t]: float(p) for t, p in zip(pairs.topic[begin:end], pairs.prob[begin:end], strict=True)}


def test_tokens_and_sources(workdir, cache, rows):
    tokenizer = Tokenizer.from_file(str(workdir / "tokenizer" / "tokenizer.json"))
    for i, row in enumerate(rows):
        assert tokenizer.decode(cache.sample_tokens(i).tolist()) == row["text"]
        assert cache.tokens[cache.offset[i] + cache.length[i]] == cache.meta["eos_id"]
        assert cache.sources[cache.source[i]] == row["source"]
        assert cache.num_bytes[i] == row["num_bytes"]


def test_splits(cache, rows):
    for split in (TRAIN, VALIDATION):
        assert np.flatnonzero(cache.is_of(split, slice(None))).tolist() == [
            i for i, row in enumerate(rows) if row["split"] == split
        ]


def test_topics_by_every_mode(cache, rows):
    names = ("ball", "vote", "court")
    for i, row in enumerate(rows):
        assert set(topics_of(open_index(cache, "labels").pairs, i)) == set(row["labels"])
        fine = {names[row["topic"]]} if row["topic"] >= 0 else set()
        assert set(topics_of(open_index(cache, "fine").pairs, i)) == fine
        assert topics_of(open_index(cache, "source").pairs, i) == {row["source"]: 1.0}


def test_crowding_is_that_of_the_topics_trained_on(tmp_path, workdir, cache):
    assert open_index(cache, "fine").pairs.crowding is None, "this table of topics doesn't tell"
    shutil.copytree(workdir, tmp_path / "other", ignore=shutil.ignore_patterns("tokens", "runs"))
    topics = pq.read_table(tmp_path / "other" / "topics.parquet")
    crowding = {row: 1.0 + row for row in topics["topic"].to_pylist()}
    told = topics.append_column(
        "crowding", pa.array([crowding[row] for row in topics["topic"].to_pylist()], pa.float32())
    )
    pq.write_table(told, tmp_path / "other" / "topics.parquet")
    other = open_cache(tmp_path / "other", tmp_path / "other" / "annotated", tmp_path / "other" / "tokenizer")
    names = {row["name"]: row["topic"] for row in topics.to_pylist()}
    index = open_index(other, "fine")
    assert index.pairs.crowding == [crowding[names[name]] for name in index.pairs.names]
    assert open_index(other, "labels").pairs.crowding is None and open_index(other, "source").pairs.crowding is None
    policy, _ = build_policy(TrainConfig(policy={"name": "toremi"}, topics="fine"), other, index, 10)
    assert policy.data.crowding == index.pairs.crowding, "what a run starts from"


@pytest.mark.parametrize("mode", ["fine", "labels", "source"])
def test_a_policy_starts_from_what_n_grams_tell_of_its_topics(cache, mode):
    index = open_index(cache, mode)
    config = TrainConfig(policy={"name": "toremi"}, topics=mode)
    first, _ = build_policy(config, cache, index, 10)
    assert len(first.data.ngram_loss) == len(first.data.unigram_loss) == len(index.pairs.names)
    again, _ = build_policy(config, cache, index, 10)
    assert np.array_equal(again.data.ngram_loss, first.data.ngram_loss, equal_nan=True), "kept in the cache"
    other, _ = build_policy(TrainConfig(policy={"name": "odm"}, topics=mode), cache, index, 10)
    assert other.data.ngram_loss is None, "it has no use for them"


def test_special_tokens_in_a_text_are_plain_text(tmp_path, workdir):
    from tests.train.smallrun import write_table_of

    path = write_table_of(tmp_path / "forged.parquet", ["before <|endoftext|> after"])
    cache = open_cache(workdir, path, workdir / "tokenizer")
    assert cache.meta["eos_id"] not in cache.sample_tokens(0).tolist()


def test_an_unchanged_table_is_not_tokenized_again(workdir, cache):
    before = (cache.folder / "tokens.npy").stat().st_mtime_ns
    again = open_cache(workdir, workdir / "annotated", workdir / "tokenizer")
    assert (again.folder / "tokens.npy").stat().st_mtime_ns == before


def test_another_table_gets_another_cache(tmp_path, workdir, cache):
    from tests.train.smallrun import write_table_of

    path = write_table_of(tmp_path / "other.parquet", ["one text"])
    assert open_cache(workdir, path, workdir / "tokenizer").fingerprint != cache.fingerprint


def test_a_rank_waits_while_the_cache_grows_and_no_longer(tmp_path, workdir):
    root = tmp_path / "work"
    shutil.copytree(workdir, root, ignore=shutil.ignore_patterns("tokens", "runs"))
    of = (root, root / "annotated", root / "tokenizer")
    (root / "tokens").mkdir()
    leftover = root / "tokens" / f".{corpus_fingerprint(*of)}.tmp-1"
    leftover.mkdir()
    (leftover / "tokens.npy").write_bytes(b"what a killed process left")
    with pytest.raises(TrainingError, match=r"first rank has not built it.* grown for 0.5 seconds; that rank's own"):
        open_cache(*of, build=False, patience_seconds=0.5)

    def build_slowly():
        for size in range(9):
            time.sleep(0.5)
            (leftover / "tokens.npy").write_bytes(bytes(size))
        open_cache(*of)

    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(build_slowly)
        assert open_cache(*of, build=False, patience_seconds=3).fingerprint == corpus_fingerprint(*of)
        building.result()


def test_missing_tokenizer(tmp_path, workdir):
    with pytest.raises(TrainingError, match=r"tokenizer\.json: no such file; run `toremi annotate"):
        open_cache(workdir, workdir / "annotated", tmp_path)


def test_tokens_are_the_same_whoever_wrote_them(tmp_path, workdir, cache):
    """By one process or two, in one shard or four, and after a kill that left a shard done and another half done."""
    rows = TableReader(workdir / "annotated", ANNOTATED).read()
    provenance = provenance_of(ANNOTATED, "toremi annotate", {}, {})
    other = tmp_path / "other"
    shutil.copytree(workdir, other, ignore=shutil.ignore_patterns("tokens", "runs", "annotated"))
    step = -(-rows.num_rows // 4)
    for k in range(4):
        write_table(other / "annotated" / shard_name(k), ANNOTATED, rows.slice(k * step, step), provenance)
    write_json(other / "annotated" / MANIFEST, {"fingerprint": provenance.fingerprint, "num_shards": 4})

    def build(workers):
        return open_cache(other, other / "annotated", other / "tokenizer", workers=workers)

    two = build(2)
    assert not parts_of(two.folder).exists()
    for array in ("tokens", *ARRAYS):
        assert (two.folder / f"{array}.npy").read_bytes() == (cache.folder / f"{array}.npy").read_bytes(), array
    for key in ("sources", "labels", "fine_names", "num_tokens", "eos_id"):
        assert two.meta[key] == cache.meta[key]


def test_what_was_killed_goes_on_with_the_shards_that_are_done(tmp_path, workdir):
    other = tmp_path / "other"
    shutil.copytree(workdir, other, ignore=shutil.ignore_patterns("tokens", "runs", "annotated"))
    rows = TableReader(workdir / "annotated", ANNOTATED).read()
    provenance = provenance_of(ANNOTATED, "toremi annotate", {}, {})
    for k in range(2):
        write_table(other / "annotated" / shard_name(k), ANNOTATED, rows.slice(k * 40, 40), provenance)
    write_json(other / "annotated" / MANIFEST, {"fingerprint": provenance.fingerprint, "num_shards": 2})
    fingerprint = corpus_fingerprint(other, other / "annotated", other / "tokenizer")
    parts = parts_of(other / "tokens" / fingerprint)
    parts.mkdir(parents=True)
    ShardWriter(other / "annotated", other / "tokenizer", parts, fingerprint, alone=True)(1)
    np.save(part_of(parts, 1) / "num_bytes.npy", np.full(40, 7))  # a mark: this shard isn't made again
    (parts / ".part-00000.tmp-999999999").mkdir()  # its writer was killed

    cache = open_cache(other, other / "annotated", other / "tokenizer", workers=1)
    assert cache.num_bytes[40:].tolist() == [7] * 40
    assert cache.num_bytes[:40].tolist() == rows["num_bytes"].to_pylist()[:40]
    assert [path.name for path in (other / "tokens").iterdir() if path.is_dir()] == [fingerprint]


LISTS = {"labels": [["x", "y", "x"], None, [], ["y"]], "probs": [[0.5, 0.5], None, [], [0.995, 0.005]]}


@pytest.mark.parametrize(("text", "many"), [(pa.string(), pa.list_), (pa.large_string(), pa.large_list)])
def test_tables_of_others_with_nulls_and_repeated_labels(tmp_path, workdir, text, many):
    columns = {
        "text": pa.array(["one two", "", None, "two"], text),
        "source": pa.array(["a", None, "b", "a"], text),
        "split": pa.array([TRAIN, TRAIN, VALIDATION, "dev"], text),
        "topic": pa.array([0, None, 1, 0], pa.int64()),
        "labels": pa.array(LISTS["labels"], many(text)),
        "probs": pa.array(LISTS["probs"], many(pa.float64())),
    }
    pq.write_table(pa.table(columns), tmp_path / "theirs.parquet")
    cache = open_cache(tmp_path, tmp_path / "theirs.parquet", workdir / "tokenizer")
    assert [cache.sources[k] for k in cache.source] == ["a", "", "b", "a"]
    assert cache.array("split").tolist() == [0, 0, 1, 2]
    assert cache.array("labels_count").tolist() == [2, 0, 0, 1]
    assert [cache.meta["labels"][k] for k in cache.array("labels_topic")] == ["x", "y", "y"]
    assert (cache.length[[0, 3]] > 0).all() and (cache.length[[1, 2]] == 0).all()


def test_tokenize_from_the_shell(tmp_path, workdir, cache):
    other = tmp_path / "other"
    shutil.copytree(workdir, other, ignore=shutil.ignore_patterns("tokens", "runs"))
    made = json.loads(toremi("tokenize", "-w", other, "--json").stdout)
    assert made["num_tokens"] == cache.meta["num_tokens"] and made["num_samples"] == cache.meta["num_samples"]
    again = toremi("tokenize", "-w", other)
    assert again.stdout.startswith(f"{made['tokens']}: ") and "tokenizing" not in again.stderr
    missing = toremi("tokenize", "-w", tmp_path / "nothing")
    assert missing.returncode == 1 and not missing.stdout
    assert "annotated: no such table; run `toremi annotate CORPUS" in missing.stderr


def test_tokens_are_there_before_ranks_start(tmp_path, workdir):
    other = tmp_path / "other"
    shutil.copytree(workdir, other, ignore=shutil.ignore_patterns("tokens", "runs"))
    config = TrainConfig(workdir=str(other))
    _make_tokens(config)
    (meta,) = other.glob("tokens/*/meta.json")
    before = meta.stat().st_mtime_ns
    _make_tokens(config)
    assert meta.stat().st_mtime_ns == before
    (other / "annotated").touch()  # as if it were written anew: looked at, and found the same
    _make_tokens(config)
    assert meta.stat().st_mtime_ns == before
