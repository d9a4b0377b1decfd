import functools
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.corpus.test_stage import write_corpus
from tests.realtext import news_articles
from tests.shell import environment, toremi
from toremi_cli.engine import run_shards
from toremi_cli.errors import TableError, UsageError
from toremi_cli.schemas import CLUSTERS, EMBEDDINGS, SAMPLES
from toremi_cli.tables import TableReader
from toremi_cli.topics.config import ClusterConfig


def note_shard(folder, shard):
    if shard == 13:
        raise TableError("shard 13 is damaged; write it again")
    (folder / str(shard)).touch()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_shard_is_done_once(tmp_path, workers):
    done = list(run_shards(functools.partial(note_shard, tmp_path), [3, 1, 2], workers=workers))
    assert sorted(done) == [1, 2, 3] and sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_is_the_users(tmp_path, workers):
    with pytest.raises(TableError, match="shard 13 is damaged"):
        list(run_shards(functools.partial(note_shard, tmp_path), [13, 1], workers=workers))


SLEEPING = """
import os, time
from pathlib import Path

def sleep(folder, shard):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)
"""
STARTING_IT = """
import sys
from functools import partial
from sleeping import sleep
from toremi_cli.engine import run_shards

list(run_shards(partial(sleep, sys.argv[1]), [0, 1], workers=2))
"""


def test_workers_end_with_a_process_that_is_killed(tmp_path):
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    (tmp_path / "starting_it.py").write_text(STARTING_IT)
    (tmp_path / "pids").mkdir()
    parent = subprocess.Popen([sys.executable, tmp_path / "starting_it.py", tmp_path / "pids"], env=environment())
    wait_until(lambda: len(list((tmp_path / "pids").iterdir())) == 2)
    pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    parent.kill()
    parent.wait(30)
    wait_until(lambda: not any(map(is_running, pids)))


def test_a_script_that_calls_us_is_not_called_again_by_its_workers(tmp_path):
    """It needs no `if __name__ == "__main__"`."""
    code = "import math\nfrom toremi_cli.engine import in_processes\nprint('main runs')\n"
    (tmp_path / "script.py").write_text(code + "print(sorted(in_processes(math.factorial, [1, 2, 3], 2)))\n")
    found = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert found.stdout.splitlines() == ["main runs", "[(0, 1), (1, 2), (2, 6)]"], found.stderr


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid):
    """Whether a process runs: one that ended may stay listed until somebody asks for its status."""
    with suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def test_an_unknown_engine():
    with pytest.raises(UsageError, match="--engine spark: expected one of local, ray"):
        ClusterConfig(engine="spark")


def values(table, folder):
    return TableReader(folder, table).read().to_pylist()


def build(folder, *flags, **env):
    shared = ("-w", folder, "--vector-dim", "8", "--shard-samples", "30", "--vocab-size", "600", "--max-tokens", "128")
    embedded = toremi("embed", folder.parent / "c", *shared, *flags, **env)
    assert embedded.returncode == 0, embedded.stderr
    clustered = toremi("cluster", "-w", folder, "--method", "kmeans", "--num-topics", "4", *flags, **env)
    assert clustered.returncode == 0, clustered.stderr
    return embedded.stderr + clustered.stderr


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    root = tmp_path_factory.mktemp("engines")
    write_corpus(root / "c", a=news_articles()[:50], b=news_articles()[45:80])
    build(root / "one", "--workers", "1")
    return root


def test_two_processes_give_the_same_tables(local):
    build(local / "two", "--workers", "2")
    for table, name in ((EMBEDDINGS, "embeddings"), (CLUSTERS, "clusters")):
        assert values(table, local / "two" / name) == values(table, local / "one" / name)
    again = toremi("embed", local / "c", "-w", local / "two", "--workers", "1")
    assert again.stderr.count("up to date") == 2, "the number of workers changes nothing"


CUT_IN_PARTS = """
import sys
from pathlib import Path
from toremi_cli.corpus import parts
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.stage import build_samples
from toremi_cli.layout import Workdir
parts.PART_BYTES = 1
config = CorpusConfig(shard_samples=30, vocab_size=600, max_tokens=128)
build_samples(sys.argv[1], Workdir(Path(sys.argv[2])), config, engine="ray", workers=2)
"""


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_gives_the_same_tables(local, tmp_path):
    program = (
        "import json, sys\n"
        "from ray.cluster_utils import Cluster\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1, 'object_store_memory': 10**8})\n"
        "cluster.add_node(num_cpus=1, object_store_memory=10**8)\n"
        "print(cluster.address, flush=True)\n"
        "sys.stdin.readline()\n"
        "cluster.shutdown()\n"
    )
    cluster = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "ray.log").open("w"),
        text=True,
        env=environment(),
    )
    try:
        address = next((line.strip() for line in cluster.stdout if ":" in line), "")
        assert address, (tmp_path / "ray.log").read_text()
        said = build(local / "ray", "--engine", "ray", "--workers", "2", RAY_ADDRESS=address)
        assert "Traceback" not in said
        command = [sys.executable, "-c", CUT_IN_PARTS, str(local / "c"), str(local / "ray-parts")]
        cut = subprocess.run(command, env=environment(RAY_ADDRESS=address), capture_output=True, text=True)
        assert cut.returncode == 0, cut.stderr
    finally:
        cluster.communicate("\n", timeout=60)
    for table, name in ((EMBEDDINGS, "embeddings"), (CLUSTERS, "clusters")):
        assert values(table, local / "ray" / name) == values(table, local / "one" / name)
        assert len(list((local / "ray" / name).glob("part-*"))) > 2
    assert values(SAMPLES, local / "ray-parts" / "samples") == values(SAMPLES, local / "one" / "samples")
