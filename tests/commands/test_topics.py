import json

import pytest

from tests.shell import assert_one_line_error, toremi
from tests.topics.handmade import TOPIC_OF_SAMPLE, write_clusters, write_samples
from tests.topics.planted import write_planted
from toremi_cli.layout import Workdir
from toremi_cli.topics.annotate import AnnotateConfig, build_annotated
from toremi_cli.topics.cluster import build_clusters
from toremi_cli.topics.config import ClusterConfig


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path)
    write_samples(workdir, TOPIC_OF_SAMPLE)
    write_clusters(workdir, TOPIC_OF_SAMPLE)
    build_annotated(workdir, AnnotateConfig())
    return tmp_path


def test_the_table_tells_all_and_fits_80_columns(workdir):
    process = toremi("topics", "--workdir", workdir)
    assert process.returncode == 0, process.stderr
    for said in ("match-coach-goal -> Sports", "match, coach, goal", "44.4%", "0.90", "web 75%, books 25%", "no label"):
        assert said in process.stdout
    assert max(map(len, process.stdout.splitlines())) <= 80
    assert "season" not in process.stdout
    assert process.stdout.index("match-coach") < process.stdout.index("court-plaintiff")


def test_coarser_topics_are_named(tmp_path):
    build_clusters(write_planted(tmp_path), ClusterConfig(method="kmeans", num_clusters=9, levels=3, workers=1))
    topics = json.loads(toremi("topics", "-w", tmp_path, "--json").stdout)
    shown = toremi("topics", "-w", tmp_path).stdout
    for topic in topics:
        fine, coarse = topic["parent_names"]
        assert f"in {fine}" in shown and f"in {coarse}" in shown


def test_json(workdir):
    topics = json.loads(toremi("topics", "--workdir", workdir, "--json").stdout)
    assert [topic["topic"] for topic in topics] == [0, 1, 2]
    assert topics[0]["labels"] == ["Sports"]
    assert topics[0]["share"] == pytest.approx(4 / 9)
    assert topics[0]["sources"] == [{"source": "web", "num_samples": 3}, {"source": "books", "num_samples": 1}]


def test_no_topics_yet(tmp_path):
    assert_one_line_error(toremi("topics", "-w", tmp_path), "topics.parquet", "run `toremi annotate CORPUS")
