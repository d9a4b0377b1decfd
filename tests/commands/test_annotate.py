"""`toremi annotate` through the shell, from text files to the labelled table."""

import json
import shutil

import pytest

from tests.realtext import news_articles
from tests.shell import assert_one_line_error, call, times, toremi
from toremi_cli.layout import Workdir
from toremi_cli.schemas import ANNOTATED, NO_TOPIC, SAMPLES
from toremi_cli.tables import TableReader

SMALL = ("--vector-dim", "20", "--num-topics", "4", "--holdout", "0.1", "--shard-samples", "40", "--workers", "1")
QUICK = ("--method", "kmeans")
NUM_ARTICLES = 120


def write_corpus(folder, articles):
    folder.mkdir(parents=True, exist_ok=True)
    for source, start in (("radio", 0), ("wire", 1)):
        lines = [json.dumps({"text": text}) for text in articles[start::2]]
        (folder / f"{source}.jsonl").write_text("\n".join(lines) + "\n")


def annotate(place, *arguments):
    process = toremi("annotate", *arguments, "-w", place.root)
    assert process.returncode == 0, process.stderr
    return process


def rows_of(place):
    return TableReader(place.annotated, ANNOTATED).read().to_pylist()


@pytest.fixture(scope="module")
def annotated_once(tmp_path_factory):
    """The folder of a corpus and its tables, a copy of it, and the command that made the tables."""
    root = tmp_path_factory.mktemp("annotate")
    write_corpus(root / "now" / "corpus", news_articles()[:NUM_ARTICLES])
    process = annotate(Workdir(root / "now" / "out"), root / "now" / "corpus", *SMALL, *QUICK)
    return root / "now", shutil.copytree(root / "now", root / "before"), process


@pytest.fixture
def finished(annotated_once):
    """An annotated corpus, as if no other test had touched it."""
    root, before, process = annotated_once
    shutil.rmtree(root)
    shutil.copytree(before, root)
    return root / "corpus", Workdir(root / "out"), process


def test_one_command_leads_from_text_to_labels(finished):
    _, place, process = finished
    samples = TableReader(place.samples, SAMPLES).read().to_pylist()
    rows = rows_of(place)
    topics = json.loads(toremi("topics", "-w", place.root, "--json").stdout)
    labels = {topic["topic"]: topic["labels"] for topic in topics}
    assert len(topics) == 4
    assert [row["text"] for row in rows] == [sample["text"] for sample in samples]
    assert {row["source"] for row in rows} == {"radio", "wire"}
    assert {row["split"] for row in rows} >= {"train"}
    for row in rows:
        assert row["labels"] == labels[row["topic"]]
        assert len(row["probs"]) == 4
        assert sum(row["probs"]) == pytest.approx(1, abs=1e-4)
        assert row["probs"][row["topic"]] == max(row["probs"])
    assert sum(topic["num_samples"] for topic in topics) == len(rows)
    assert any(topic["labels"] for topic in topics)
    assert topics[0]["name"] in process.stdout
    assert "4 topics" in process.stdout.splitlines()[-1]


def test_a_rerun_has_nothing_to_do(finished):
    corpus, place, _ = finished
    folders = (place.samples, place.embeddings, place.clusters, place.annotated, place.root)
    before = times(*folders)
    for arguments in ((corpus,), (), (corpus, *SMALL, *QUICK)):
        process = annotate(place, *arguments)
        assert f"{place.annotated}: up to date" in process.stderr
        assert times(*folders) == before


def test_another_taxonomy_redoes_the_labels_only(finished, tmp_path):
    _, place, _ = finished
    earlier = times(place.samples, place.embeddings, place.clusters)
    labels = times(place.annotated)
    (tmp_path / "mine.json").write_text(json.dumps(["Sports", "Military", "Weather fire"]))
    annotate(place, "--taxonomy", tmp_path / "mine.json")
    assert times(place.samples, place.embeddings, place.clusters) == earlier
    assert not set(times(place.annotated).items()) & set(labels.items())
    assert {label for row in rows_of(place) for label in row["labels"]} <= {"Sports", "Military", "Weather fire"}


@pytest.mark.slow
def test_the_fused_model_and_min_agreement(tmp_path):
    write_corpus(tmp_path / "corpus", news_articles())
    place = Workdir(tmp_path / "out")
    result = json.loads(annotate(place, tmp_path / "corpus", "--min-agreement", "0.3", "--json").stdout)
    assert result["num_topics"] == len(result["topics"]) > 1
    assert result["num_labelled_topics"] > result["num_topics"] / 2
    rows = rows_of(place)
    unsettled = [row for row in rows if row["topic"] == NO_TOPIC]
    assert result["num_unsettled"] == len(unsettled) > 0
    assert all(row["labels"] == [] and row["agreement"] < 0.3 for row in unsettled)
    assert all(row["agreement"] >= 0.3 for row in rows if row["topic"] != NO_TOPIC)


def test_a_changed_corpus_is_annotated_anew(finished):
    corpus, place, _ = finished
    before = times(place.samples, place.embeddings, place.clusters, place.annotated)
    write_corpus(corpus, news_articles()[: NUM_ARTICLES + 20])
    process = annotate(place, corpus)
    assert "corpus changed" in process.stderr
    after = times(place.samples, place.embeddings, place.clusters, place.annotated)
    assert not set(after.items()) & set(before.items())
    rows = rows_of(place)
    assert len(rows) >= NUM_ARTICLES + 20 - 5
    assert all(len(row["probs"]) == 4 for row in rows), "flags that are not given stay as they were"


def test_nothing_trains_on_samples_of_other_clusters_than_the_topics_are_of(finished):
    """Topic 3 of the one is not topic 3 of the other."""
    _, place, _ = finished
    workdir = place.clusters.parent
    assert call("cluster", "--workdir", workdir, "--num-topics", "6").returncode == 0
    stale = ("annotated: of other clusters than", "run `toremi annotate` again")
    assert_one_line_error(call("pretrain", "-w", workdir, "--gpus", "0", "--max-steps", "2"), *stale)
    to_yaml = ("export", "-w", workdir, "--policy", "stratified", "--topics", "fine", "--to", "yaml")
    assert_one_line_error(call(*to_yaml), *stale)
    to_tokens = ("export", "-w", workdir, "--topics", "fine", "--to", "tokens", "--by", "topic")
    assert_one_line_error(call(*to_tokens, "-o", workdir / "tokens-of-topics"), *stale)
    annotate(place)
    assert call(*to_yaml).returncode == 0


def test_relabel_takes_stale_clusters_as_they_are(finished):
    corpus, place, _ = finished
    for path in corpus.glob("*.jsonl"):
        with path.open("a") as file:
            file.write('{"text": "one more"}\n')
    before = times(place.samples, place.embeddings, place.clusters)
    process = annotate(place, "--relabel", "--taxonomy", "none")
    assert times(place.samples, place.embeddings, place.clusters) == before
    assert process.stdout.count("->") == 1, "the heading only: a name needs no label beside it"
    assert all(len(row["labels"]) == 1 for row in rows_of(place))


def test_no_corpus_and_a_missing_corpus(tmp_path):
    assert_one_line_error(toremi("annotate", "-w", tmp_path / "out"), "no samples", "name a corpus")
    process = toremi("annotate", tmp_path / "absent", "-w", tmp_path / "out")
    assert_one_line_error(process, "absent")
    assert not (tmp_path / "out" / "annotated").exists()
