import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shell import times
from tests.topics.handmade import TOPIC_OF_SAMPLE, WORDS, write_clusters, write_samples
from toremi_cli.errors import TableError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.schemas import ANNOTATED, TOPICS
from toremi_cli.tables import TableReader, shard_name
from toremi_cli.topics import annotate
from toremi_cli.topics.annotate import AnnotateConfig, build_annotated


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path)
    write_samples(workdir, TOPIC_OF_SAMPLE)
    write_clusters(workdir, TOPIC_OF_SAMPLE)
    return workdir


def rows_of(workdir):
    return TableReader(workdir.annotated, ANNOTATED).read().to_pylist()


def topics_of(workdir):
    return TableReader(workdir.topics, TOPICS).read().to_pylist()


def test_every_sample_gets_its_topics_labels(workdir):
    manifest = build_annotated(workdir, AnnotateConfig())
    assert (manifest["num_rows"], manifest["num_shards"], manifest["num_labelled_topics"]) == (10, 3, 2)
    topics = topics_of(workdir)
    assert [topic["name"] for topic in topics] == ["match-coach-goal", "court-plaintiff-appeal", "blorb-zzyx-qwxt"]
    assert [topic["labels"] for topic in topics] == [["Sports"], ["Law"], []]
    assert [topic["label_source"] for topic in topics] == ["lexicon", "lexicon", "none"]
    assert all(len(topic["label_scores"]) == len(topic["labels"]) for topic in topics)
    rows = rows_of(workdir)
    assert [row["sample_id"] for row in rows] == [f"d{number}#0" for number in range(10)]
    assert [row["topic"] for row in rows] == TOPIC_OF_SAMPLE
    assert [row["labels"] for row in rows] == [topics[t]["labels"] if t >= 0 else [] for t in TOPIC_OF_SAMPLE]
    assert rows[0]["text"] == " ".join(WORDS[0]) + " number 0"
    assert rows[0]["probs"] == pytest.approx([0.8, 0.1, 0.1])


def test_labelling_keeps_the_columns_that_clustering_added(workdir):
    topics = pq.read_table(workdir.topics)
    crowding = pa.array([1.5 + row for row in range(topics.num_rows)], pa.float32())
    pq.write_table(topics.append_column("crowding", crowding), workdir.topics)
    build_annotated(workdir, AnnotateConfig())
    assert pq.read_table(workdir.topics)["crowding"].combine_chunks().equals(crowding)


def test_a_rerun_rewrites_nothing(workdir):
    build_annotated(workdir, AnnotateConfig())
    before, topics_before = times(workdir.annotated), workdir.topics.stat().st_mtime_ns
    build_annotated(workdir, AnnotateConfig())
    assert times(workdir.annotated) == before
    assert workdir.topics.stat().st_mtime_ns == topics_before


def test_taxonomy_none_takes_the_names(workdir):
    build_annotated(workdir, AnnotateConfig(taxonomy="none"))
    for topic in topics_of(workdir):
        assert (topic["labels"], topic["label_source"]) == ([topic["name"]], "name")
    assert [row["labels"] for row in rows_of(workdir)][2:4] == [["blorb-zzyx-qwxt"], []]


def test_another_taxonomy_relabels_and_back_again_too(workdir, tmp_path, capsys):
    build_annotated(workdir, AnnotateConfig())
    first = rows_of(workdir)
    clusters = times(workdir.clusters)
    (tmp_path / "mine.txt").write_text("Goal match\nCourt judge\n")
    build_annotated(workdir, AnnotateConfig(taxonomy=str(tmp_path / "mine.txt")))
    assert "taxonomy was" in capsys.readouterr().err
    assert rows_of(workdir)[0]["labels"] == ["Goal match"]
    build_annotated(workdir, AnnotateConfig())
    assert rows_of(workdir) == first
    assert times(workdir.clusters) == clusters


def test_a_taxonomy_counts_by_its_words_not_by_its_path(workdir, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text('{"name": "mine", "labels": ["Goal match"]}')
    build_annotated(workdir, AnnotateConfig(taxonomy=str(tmp_path / "one.json")))
    before = times(workdir.annotated)
    # The path is part of no fingerprint, the contents are.
    build_annotated(workdir, AnnotateConfig(taxonomy=str(tmp_path / "two.json")))
    assert times(workdir.annotated) == before
    (tmp_path / "two.json").write_text('{"name": "mine", "labels": ["Goal match", "Court judge"]}')
    build_annotated(workdir, AnnotateConfig(taxonomy=str(tmp_path / "two.json")))
    assert times(workdir.annotated) != before


def test_an_interrupted_run_goes_on_where_it_stopped(workdir):
    build_annotated(workdir, AnnotateConfig())
    whole = rows_of(workdir)
    (workdir.annotated / "_manifest.json").unlink()
    (workdir.annotated / shard_name(1)).write_bytes(b"PAR1 cut off")
    before = times(workdir.annotated)
    build_annotated(workdir, AnnotateConfig())
    after = times(workdir.annotated)
    assert {path.name for path in after if after[path] != before[path]} == {shard_name(1)}
    assert rows_of(workdir) == whole


def test_two_processes_write_the_same_rows(workdir, monkeypatch):
    build_annotated(workdir, AnnotateConfig())
    whole, before = rows_of(workdir), times(workdir.annotated)
    shutil.rmtree(workdir.annotated)
    monkeypatch.setattr(annotate, "LEAST_SHARDS_TO_SHARE", 0)
    build_annotated(workdir, AnnotateConfig(), workers=2)
    assert rows_of(workdir) == whole and times(workdir.annotated).keys() == before.keys()


def test_new_clusters_are_labelled_anew(workdir):
    build_annotated(workdir, AnnotateConfig())
    write_clusters(workdir, TOPIC_OF_SAMPLE[::-1], seed=1)
    build_annotated(workdir, AnnotateConfig())
    assert [row["topic"] for row in rows_of(workdir)] == TOPIC_OF_SAMPLE[::-1]
    assert [topic["labels"] for topic in topics_of(workdir)] == [["Sports"], ["Law"], []]


def test_row_groups_of_other_lengths_and_foreign_columns_are_no_obstacle(workdir):
    for shard in sorted(workdir.clusters.glob("*.parquet")):
        table = pq.read_table(shard)
        table = table.append_column("extra", pa.array(range(table.num_rows)))
        pq.write_table(table, shard, row_group_size=1)
    topics = pq.read_table(workdir.topics)
    pq.write_table(topics.append_column("parent", pa.array([7, 8, 9])), workdir.topics)
    build_annotated(workdir, AnnotateConfig())
    assert [row["topic"] for row in rows_of(workdir)] == TOPIC_OF_SAMPLE
    assert pq.read_table(workdir.topics)["parent"].to_pylist() == [7, 8, 9]


def test_tables_that_do_not_belong_together(workdir):
    write_samples(workdir, [*TOPIC_OF_SAMPLE, 0], note="more")
    with pytest.raises(TableError, match="run `toremi cluster` again"):
        build_annotated(workdir, AnnotateConfig())
    write_samples(workdir, TOPIC_OF_SAMPLE)
    stale = workdir.topics.read_bytes()
    write_clusters(workdir, TOPIC_OF_SAMPLE, seed=1)
    workdir.topics.write_bytes(stale)
    with pytest.raises(TableError, match="describes other topics"):
        build_annotated(workdir, AnnotateConfig())


def test_rows_out_of_order_are_found(workdir):
    shard = workdir.clusters / shard_name(0)
    pq.write_table(pq.read_table(shard).take([1, 0, 2, 3]), shard)
    with pytest.raises(TableError, match="in the same order"):
        build_annotated(workdir, AnnotateConfig())


def test_a_topic_that_the_table_of_topics_lacks(workdir):
    pq.write_table(pq.read_table(workdir.topics).slice(0, 2), workdir.topics)
    with pytest.raises(TableError, match=r"topic 2 is not in the table of topics \(0 to 1\)"):
        build_annotated(workdir, AnnotateConfig())


@pytest.mark.parametrize("settings", [{"max_labels": 4}, {"min_score": 1.1}, {"closeness": -0.1}])
def test_settings_out_of_range(settings):
    with pytest.raises(UsageError, match="expected"):
        AnnotateConfig(**settings)
