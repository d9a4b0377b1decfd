import json
import subprocess
import sys

import pytest

from tests.shell import assert_one_line_error, toremi
from tests.test_engine import wait_until
from tests.topics.planted import write_planted
from toremi_cli.schemas import CLUSTERS, TOPICS
from toremi_cli.stage import PLAN
from toremi_cli.tables import MANIFEST, TableReader, read_manifest
from toremi_cli.topics.cluster import build_clusters
from toremi_cli.topics.config import ClusterConfig


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_planted(tmp_path_factory.mktemp("cli"))


@pytest.mark.parametrize("method", ["kmeans", "lda", "top2vec", "fused"])
def test_every_method(workdir, method):
    number = "--num-clusters" if method == "kmeans" else "--num-topics"
    done = toremi("cluster", "-w", workdir.root, "--method", method, number, "3", "--json", PYTHONHASHSEED="1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["method"], result["num_topics"], result["num_samples"]) == (method, 3, 200)
    assert sum(topic["num_samples"] for topic in result["topics"]) == 200
    assert TableReader(workdir.clusters, CLUSTERS).num_rows == 200
    assert TableReader(workdir.topics, TOPICS).num_rows == 3


def test_another_process_with_another_hash_seed_finds_the_same_topics(workdir, tmp_path):
    done = toremi("cluster", "-w", workdir.root, "--method", "fused", "--num-topics", "3", PYTHONHASHSEED="1")
    assert done.returncode == 0, done.stderr
    here = write_planted(tmp_path)
    build_clusters(here, ClusterConfig(num_topics=3))
    assert TableReader(here.clusters, CLUSTERS).read().equals(TableReader(workdir.clusters, CLUSTERS).read())
    assert TableReader(here.topics, TOPICS).read().equals(TableReader(workdir.topics, TOPICS).read())


def test_the_table_says_how_many_topics_and_why(tmp_path):
    workdir = write_planted(tmp_path)
    done = toremi("cluster", "-w", workdir.root, "--min-topic-samples", "90")
    assert done.returncode == 0, done.stderr
    assert "falling back to k-means" in done.stderr
    assert "10 topics (" in done.stdout and "mean agreement" in done.stdout
    again = toremi("cluster", "-w", workdir.root)
    assert "up to date" in again.stderr, "flags that are not given stay as they were"


def test_flags_of_an_interrupted_run_stay_and_refused_ones_go(tmp_path):
    workdir = write_planted(tmp_path)
    flags = ("--num-topics", "3", "--seed", "7")  # fitted for seconds, time enough to be killed
    process = subprocess.Popen([sys.executable, "-m", "toremi_cli.cli", "cluster", "-w", str(workdir.root), *flags])
    wait_until(lambda: (workdir.clusters / PLAN).exists() or process.poll() is not None)
    process.kill()
    process.wait()
    assert not (workdir.clusters / MANIFEST).exists(), "killed before it was done"
    done = toremi("cluster", "-w", workdir.root, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_topics"] == 3
    assert read_manifest(workdir.clusters)["config"]["seed"] == 7
    assert_one_line_error(toremi("cluster", "-w", workdir.root, "--num-topics", "few"), "--num-topics few", "'auto'")
    assert "up to date" in toremi("cluster", "-w", workdir.root).stderr


def test_auto_takes_a_number_of_topics_back(tmp_path):
    workdir = write_planted(tmp_path)
    assert toremi("cluster", "-w", workdir.root, "--method", "lda", "--num-topics", "2").returncode == 0
    assert toremi("cluster", "-w", workdir.root, "--num-topics", "auto").returncode == 0
    assert read_manifest(workdir.clusters)["config"]["num_topics"] is None


def test_errors_are_one_line(tmp_path):
    assert_one_line_error(toremi("cluster", "-w", tmp_path), "no such file or folder", "samples")
    assert_one_line_error(toremi("cluster", "-w", tmp_path, "--method", "nmf"), "--method nmf", "fused, kmeans")
