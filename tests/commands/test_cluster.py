import json
import signal

import pytest

from tests import forks
from tests.shell import assert_one_line_error, environment, toremi
from tests.topics.planted import write_planted
from toremi_cli.schemas import CLUSTERS, TOPICS
from toremi_cli.tables import MANIFEST, TableReader, read_manifest

ALONE = ("--workers", "1")  # tests/topics has several

KILLED_AT_A_SHARD = """
import os, signal, sys
def watch(event, details):
    if event == "os.rename" and "part-" in str(details[1]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from toremi_cli.cli import main
main()
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_planted(tmp_path_factory.mktemp("cli"))


@pytest.mark.parametrize("method", ["kmeans", "lda", "top2vec"])
def test_every_method(workdir, method):
    flags = ("--num-clusters" if method == "kmeans" else "--num-topics", "3", *ALONE)
    check_clustered(workdir, method, toremi("cluster", "-w", workdir.root, "--method", method, *flags, "--json"))


def check_clustered(workdir, method, done):
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["method"], result["num_topics"], result["num_samples"]) == (method, 3, 200)
    assert sum(topic["num_samples"] for topic in result["topics"]) == 200
    assert TableReader(workdir.clusters, CLUSTERS).num_rows == 200
    assert TableReader(workdir.topics, TOPICS).num_rows == 3


def test_another_process_with_another_hash_seed_finds_the_same_topics(workdir, tmp_path):
    flags = ("--method", "fused", "--num-topics", "3", "--json", *ALONE)
    check_clustered(workdir, "fused", toremi("cluster", "-w", workdir.root, *flags, PYTHONHASHSEED="1"))
    here = write_planted(tmp_path)
    check_clustered(here, "fused", toremi("cluster", "-w", here.root, *flags))
    assert TableReader(here.clusters, CLUSTERS).read().equals(TableReader(workdir.clusters, CLUSTERS).read())
    assert TableReader(here.topics, TOPICS).read().equals(TableReader(workdir.topics, TOPICS).read())


def test_the_table_says_how_many_topics_and_why(tmp_path):
    workdir = write_planted(tmp_path)
    done = toremi("cluster", "-w", workdir.root, "--min-topic-samples", "90", *ALONE)
    assert done.returncode == 0, done.stderr
    assert "falling back to k-means" in done.stderr
    assert "10 topics (" in done.stdout and "mean agreement" in done.stdout
    again = toremi("cluster", "-w", workdir.root)
    assert "up to date" in again.stderr, "flags that are not given stay as they were"


def test_flags_of_an_interrupted_run_stay_and_refused_ones_go(tmp_path):
    workdir = write_planted(tmp_path)
    flags = ["cluster", "-w", str(workdir.root), "--num-topics", "3", "--seed", "7", *ALONE]
    killed = forks.run(["-c", KILLED_AT_A_SHARD, *flags], None, environment(), 300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (workdir.clusters / MANIFEST).exists(), "killed before it was done"
    done = toremi("cluster", "-w", workdir.root, "--json", *ALONE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_topics"] == 3
    assert read_manifest(workdir.clusters)["config"]["seed"] == 7
    assert_one_line_error(toremi("cluster", "-w", workdir.root, "--num-topics", "few"), "--num-topics few", "'auto'")
    assert "up to date" in toremi("cluster", "-w", workdir.root).stderr


def test_auto_takes_a_number_of_topics_back(tmp_path):
    workdir = write_planted(tmp_path)
    assert toremi("cluster", "-w", workdir.root, "--method", "lda", "--num-topics", "2", *ALONE).returncode == 0
    assert toremi("cluster", "-w", workdir.root, "--num-topics", "auto", *ALONE).returncode == 0
    assert read_manifest(workdir.clusters)["config"]["num_topics"] is None


def test_errors_are_one_line(tmp_path):
    assert_one_line_error(toremi("cluster", "-w", tmp_path), "no such file or folder", "samples")
    assert_one_line_error(toremi("cluster", "-w", tmp_path, "--method", "nmf"), "--method nmf", "fused, kmeans")
