import json

import pytest

from tests.shell import assert_one_line_error, toremi
from tests.topics.planted import write_planted
from toremi_cli.schemas import CLUSTERS, TOPICS
from toremi_cli.tables import TableReader
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


def test_errors_are_one_line(tmp_path):
    assert_one_line_error(toremi("cluster", "-w", tmp_path), "no such file or folder", "samples")
    assert_one_line_error(toremi("cluster", "-w", tmp_path, "--method", "nmf"), "--method nmf", "fused, kmeans")
