"""Tokens behind a URL train the model that tokens on the local disk train; what fails is named in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from tests.bpe import make_tokenizer
from tests.shell import call, environment
from tests.test_killed import killed_everywhere
from tests.train.both_ranks import config
from toremi_cli import remote
from toremi_cli.errors import TrainingError
from toremi_cli.files import read_json
from toremi_cli.train import token_store
from toremi_cli.train.token_store import TokenStore
from toremi_cli.train.token_table import copy_token_table, open_token_table
from toremi_cli.train.worker import open_run_cache, run_worker

URL = "s3://tables/small"
BLOCK_BYTES, NUM_BLOCKS = 2 * 300, 19


@pytest.fixture
def node(store, monkeypatch):
    """The object store, for a machine of small blocks and no patience."""
    import s3fs

    for name, value in {**store.env, "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    for place, name, value in (
        (token_store, "BLOCK_TOKENS", 300),
        (token_store, "PART_TOKENS", 100),
        (token_store, "GAP_TOKENS", 10),
        (remote, "WAITS_SECONDS", (0.0, 0.0)),
        (s3fs.S3FileSystem, "retries", 1),
    ):
        monkeypatch.setattr(place, name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield store
    store.fails = lambda path: False
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def table(node, workdir, cache):
    """The small corpus in the store; what there is of it by its file system."""
    import s3fs

    filesystem = s3fs.S3FileSystem()
    filesystem.mkdirs("tables", exist_ok=True)
    if filesystem.exists("tables/small"):
        filesystem.rm("tables/small", recursive=True)
    made = call("tokenize", "-w", workdir, "-o", URL)
    assert made.returncode == 0, made.stderr
    return filesystem


@pytest.fixture(scope="module")
def on_disk(workdir):
    run_worker(config(workdir, "toremi", "on-disk", eval_every=8), resume=False)
    return workdir / "runs" / "on-disk-toremi" / "checkpoint-16" / "model.safetensors"


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def requests(store):
    return [part for path, part in store.requests if path == "/tables/small/tokens.npy"]


def blocks(cache):
    return sorted(path.name for path in cache.store.folder.glob("*.bin"))


@pytest.mark.parametrize(("kept_bytes", "most_blocks"), [(1e9, NUM_BLOCKS), (2.5 * BLOCK_BYTES, 2), (0, 0)])
def test_a_run_is_that_on_the_local_disk(table, on_disk, workdir, tmp_path, capsys, kept_bytes, most_blocks):
    settings = config(workdir, "toremi", "stored", eval_every=8, quiet=False)
    run_worker(replace(settings, workdir=str(tmp_path), tokens=URL, cache_gb=kept_bytes / 1e9), resume=False)
    run = tmp_path / "runs" / "stored-toremi"
    assert (run / "checkpoint-16" / "model.safetensors").read_bytes() == on_disk.read_bytes()
    assert (run / "checkpoint-16" / "tokenizer.json").is_file(), "from the store, too"
    assert read_json(run / "run.json")["annotated"] == URL
    assert len(list(tmp_path.glob("tokens/*/blocks/*.bin"))) <= most_blocks
    warnings = [line for line in capsys.readouterr().err.splitlines() if "--cache-gb" in line]
    assert len(warnings) == (most_blocks < NUM_BLOCKS)
    for warning in warnings:
        assert f"keeps {most_blocks / NUM_BLOCKS:.0%} here" in warning
        assert f"about {(1 - most_blocks / NUM_BLOCKS) * 6 * 32 * 90 / 5682:.0f} requests a step" in warning


def test_what_was_fetched_is_read_from_the_disk(table, node, cache, tmp_path):
    found, every = open_token_table(tmp_path, URL, None, 1.0), np.arange(len(cache.length))
    assert np.concatenate(found.texts(every)).tolist() == np.concatenate(cache.texts(every)).tolist()
    until(lambda: len(blocks(found)) == NUM_BLOCKS)
    again = open_token_table(tmp_path, URL, None, 1.0, build=False)
    asked = len(requests(node))
    assert np.concatenate(again.texts(every)).tolist() == np.concatenate(cache.texts(every)).tolist()
    assert len(requests(node)) == asked
    (again.store.folder / "000003.bin").write_bytes(b"cut")
    less = open_token_table(tmp_path, URL, None, 7.5 * BLOCK_BYTES / 1e9)
    assert blocks(less) == [f"{k:06d}.bin" for k in (0, 1, 2, 4, 5, 6)]
    assert again.sample_tokens(89).tolist() == cache.sample_tokens(89).tolist(), "a run whose blocks were taken away"


def test_ranks_share_the_blocks_and_their_bound(table, node, cache, tmp_path):
    ranks = [open_token_table(tmp_path, URL, None, 8 * BLOCK_BYTES / 1e9) for _ in range(3)]
    node.requests.clear()
    rng, size = np.random.default_rng(0), len(cache.tokens)

    def read(rank):
        for _ in range(30):
            begins, lengths = rng.integers(0, size - 40, 5), rng.integers(1, 40, 5)
            expected = np.concatenate([cache.tokens[b : b + n] for b, n in zip(begins, lengths, strict=True)])
            assert rank.read(begins, lengths).tolist() == expected.tolist()
            assert len(blocks(rank)) <= 8

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(read, ranks))
    of_blocks = [part for part in requests(node) if part in {f"bytes={b}-{b + 199}" for b in range(128, 11492, 200)}]
    assert len(of_blocks) == len(set(of_blocks)), "no block was fetched twice"


def test_every_machine_brings_its_own(table, workdir, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "8")
    monkeypatch.setenv("LOCAL_RANK", "0")
    settings = replace(config(workdir, "toremi", "second"), workdir=str(tmp_path), tokens=URL)
    assert open_run_cache(settings, build=False).folder.parent == tmp_path / "tokens"


def cut(table, name):
    table.pipe(f"tables/small/{name}", table.cat(f"tables/small/{name}")[:-20])


def put_other_tokens(table):
    tokens = bytearray(table.cat("tables/small/tokens.npy"))
    tokens[128:] = np.roll(np.frombuffer(tokens[128:], np.uint16), 1).tobytes()
    table.pipe("tables/small/tokens.npy", bytes(tokens))


DAMAGE = {
    r"tokens\.npy: has 11,472 bytes, expected 11,492 for 5,682 tokens: cut": lambda table: cut(table, "tokens.npy"),
    r"offset\.npy: damaged \(.*\); copy it again": lambda table: cut(table, "offset.npy"),
    r"tokens\.npy: of another table than the arrays beside it; copy all again": put_other_tokens,
    r"length\.npy: The specified key does not exist": lambda table: table.rm_file("tables/small/length.npy"),
    r"meta\.json: damaged; expected what": lambda table: table.pipe("tables/small/meta.json", b"[]"),
    r"meta\.json: no such file; see that": lambda table: table.rm("tables/small", recursive=True),
    r"meta\.json: The specified bucket does not exist": lambda table: table.rm("tables", recursive=True),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_table_is_refused(table, tmp_path, message):
    DAMAGE[message](table)
    with pytest.raises(TrainingError, match=f"^{URL}/{message}"):
        open_token_table(tmp_path, URL, None, 1.0)


def test_another_tokenizer_or_table_is_refused(table, cache, tmp_path):
    make_tokenizer(tmp_path / "tokenizer", 280, ["few words, so few tokens"])
    with pytest.raises(TrainingError, match=r"made by another tokenizer than that of .*; leave --tokenizer out"):
        open_token_table(tmp_path, URL, tmp_path / "tokenizer", 1.0)
    meta = json.loads(table.cat("tables/small/meta.json"))
    table.pipe("tables/small/meta.json", json.dumps({**meta, "fingerprint": "0123"}).encode())
    with pytest.raises(TrainingError, match=f"--output {URL}: holds tokens of another table; remove them, or name"):
        copy_token_table(cache, URL)


FAULTS = {
    r"/meta\.json: Unable to locate credentials; see": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
    r"/meta\.json: Could not connect .*, tried 3 times; see": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
    r"/length\.npy: Service Unavailable, tried 3 times; see": lambda path: path.endswith("length.npy"),
    r"/meta\.json: Read timeout .*, tried 3 times; see": lambda path: time.sleep(0.7),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_store_that_fails_is_named(table, node, tmp_path, monkeypatch, message):
    import s3fs

    if callable(FAULTS[message]):
        node.fails = FAULTS[message]
        monkeypatch.setattr(s3fs.S3FileSystem, "read_timeout", 0.5)
    else:
        for name, value in FAULTS[message].items():
            monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(TrainingError, match=f"^{URL}{message}"):
        open_token_table(tmp_path, URL, None, 1.0)
    assert [path.name for path in tmp_path.glob("tokens/*")] == [], "nothing half"


def test_a_store_that_fails_later_is_asked_again_and_named(table, node, cache, tmp_path):
    found, failed = open_token_table(tmp_path, URL, None, 0.0), []
    node.fails = lambda path: len(failed) < 2 and not failed.append(path)
    assert found.sample_tokens(50).tolist() == cache.sample_tokens(50).tolist() and len(failed) == 2
    node.fails = lambda path: True
    with pytest.raises(TrainingError, match=f"^{URL}/tokens.npy: Service Unavailable, tried 3 times"):
        found.sample_tokens(9)
    node.fails = lambda path: False
    cut(table, "tokens.npy")
    with pytest.raises(TrainingError, match="cut short, or replaced since the run began"):
        found.read(np.array([5670]), np.array([12]))
    keeping = TokenStore(found.store.remote, len(cache.tokens), tmp_path / "blocks", 1e9)
    keeping.read(np.array([5670]), np.array([1]))
    until(lambda: keeping._failure)
    with pytest.raises(TrainingError, match="cut short, or replaced since the run began"):
        keeping.read(np.array([0]), np.array([1]))


def test_a_table_on_this_machine_is_linked(workdir, cache, tmp_path):
    shutil.rmtree(cache.folder / "tokenizer")  # as an earlier version left it
    assert call("tokenize", "-w", workdir, "-o", tmp_path / "table").returncode == 0
    found = open_token_table(tmp_path / "node", str(tmp_path / "table"), None, 1.0)
    assert found.store is None and found.tokens.tolist() == cache.tokens.tolist()
    assert (found.folder / "tokens.npy").is_symlink() and (found.tokenizer / "tokenizer.json").is_file()
    (tmp_path / "table").rename(tmp_path / "moved")
    again = open_token_table(tmp_path / "node", str(tmp_path / "moved"), None, 1.0)
    assert again.tokens.tolist() == cache.tokens.tolist()


def test_killed_while_it_fetches_blocks_nothing_is_half(table, cache, tmp_path):
    folder = open_token_table(tmp_path, URL, None, 1.0).folder / "blocks"
    kinds = killed_everywhere(tmp_path, "tokens", URL)
    assert {kind.rpartition("/")[2] for kind in kinds} == {"blocks", ".N.bin.lock", ".N.bin.tmp-N"} and len(kinds) > 4
    assert b"".join(path.read_bytes() for path in sorted(folder.glob("*.bin"))) == cache.tokens.tobytes()


FULL_DISK = """
import resource, sys
from pathlib import Path
import fsspec, numpy as np
from toremi_cli.train import token_store

token_store.BLOCK_TOKENS, memory = 300, fsspec.filesystem("memory")
with memory.open("/tokens.npy", "wb") as file:
    np.save(file, np.arange(3000, dtype=np.uint16))
remote = token_store.open_remote_tokens("memory://tokens.npy", memory, "/tokens.npy", 3000)
store = token_store.TokenStore(remote, 3000, Path(sys.argv[1]), 1e9)
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
for _ in range(2):
    assert store.read(np.array([5, 2000]), np.array([2, 1])).tolist() == [5, 6, 2000]
    while store._has_room:
        pass
"""


def test_a_full_disk_is_told_of_once_and_the_run_goes_on(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=100)
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("no space left on the device; tokens that are not there") == 1, process.stderr
    assert not list(tmp_path.iterdir())
