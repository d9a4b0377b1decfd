import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shell import toremi
from tests.topics.planted import planted_texts, planted_vectors, write_planted, write_tables
from toremi_cli import tables
from toremi_cli.corpus.tokenizer import save_tokenizer, train_tokenizer
from toremi_cli.errors import TableError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import CLUSTERS, EMBEDDINGS, END_OF_TEXT, NO_TOPIC, SAMPLES, TOPICS
from toremi_cli.tables import MANIFEST, TableReader, open_shard, read_manifest
from toremi_cli.topics import cluster
from toremi_cli.topics.cluster import assign_shard, build_clusters, sample_to_fit
from toremi_cli.topics.config import ClusterConfig
from toremi_cli.topics.topic_entropy import topic_entropies
from toremi_cli.topics.topic_table import topics_are_current

FAST = ClusterConfig(method="kmeans", num_clusters=4, workers=1)


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    workdir = write_planted(tmp_path_factory.mktemp("fused"))
    manifest = build_clusters(workdir, ClusterConfig(num_topics=3, workers=1))
    return workdir, manifest


def values(workdir):
    return TableReader(workdir.clusters, CLUSTERS).read()


def test_rows_are_those_of_the_samples_in_shards_of_the_same_names(fused):
    workdir, manifest = fused
    clusters, samples = TableReader(workdir.clusters, CLUSTERS), TableReader(workdir.samples, SAMPLES)
    assert [s.name for s in clusters.shards] == [s.name for s in samples.shards] and len(clusters.shards) == 3
    rows = clusters.read()
    assert rows["sample_id"].to_pylist() == samples.read(["sample_id"])["sample_id"].to_pylist()
    probs = np.array(rows["probs"].to_pylist())
    assert probs.shape == (samples.num_rows, 3) and np.allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(probs.argmax(axis=1), rows["topic"].to_numpy())
    assert pq.read_schema(clusters.shards[0]).field("probs").type == pa.list_(pa.float32())
    assert manifest["num_topics"] == 3 and manifest["coverage"] == 1.0 and "3 asked for" in manifest["reason"]


def test_topics_tell_sizes_tokens_sources_and_keywords(fused):
    workdir, _ = fused
    topics = TableReader(workdir.topics, TOPICS).read().to_pylist()
    topic, agreement = (values(workdir)[name].to_numpy() for name in ("topic", "agreement"))
    tokens = TableReader(workdir.samples, SAMPLES).read(["num_tokens"])["num_tokens"].to_numpy()
    assert [row["topic"] for row in topics] == [0, 1, 2] and len({row["name"] for row in topics}) == 3
    for row in topics:
        mine = topic == row["topic"]
        assert (row["num_samples"], row["num_tokens"]) == (mine.sum(), tokens[mine].sum())
        assert row["agreement"] == pytest.approx(agreement[mine].mean(), rel=1e-5)
        assert sum(source["num_samples"] for source in row["sources"]) == row["num_samples"]
        assert row["sources"][0]["num_samples"] > 0.8 * row["num_samples"], "the kinds were planted"
        assert 1 <= row["crowding"] < 1.5, "three kinds that have little in common"
        assert 20 <= len(row["words"]) <= 150 and row["labels"] == [] and row["label_source"] == "none"
    sizes = [row["num_samples"] for row in topics]
    assert sizes == sorted(sizes, reverse=True)


def test_entropies_of_the_topics_stand_beside_them_where_there_is_a_tokenizer(tmp_path, fused):
    assert "ngram_entropy" not in TableReader(fused[0].topics, TOPICS).schema.names
    workdir = write_planted(tmp_path)
    save_tokenizer(train_tokenizer(planted_texts()[0], 1000, 100_000), workdir.tokenizer, "x", END_OF_TEXT, {})
    build_clusters(workdir, FAST)
    found = topic_entropies(workdir, 4)
    table = TableReader(workdir.topics, TOPICS).read()
    assert table["ngram_entropy"].to_pylist() == found.ngram.tolist()
    assert table["unigram_entropy"].to_pylist() == found.unigram.tolist()
    assert all(0 < each < 10 for each in found.ngram)


def test_a_rerun_leaves_everything_alone_and_says_so(fused, capsys):
    workdir, _ = fused
    before = {path.name: path.stat().st_mtime_ns for path in workdir.clusters.glob("*.parquet")}
    build_clusters(workdir, ClusterConfig(num_topics=3, workers=2))
    assert "up to date" in capsys.readouterr().err
    assert before == {path.name: path.stat().st_mtime_ns for path in workdir.clusters.glob("*.parquet")}


def test_tables_of_an_older_method_are_made_anew(tmp_path, monkeypatch, capsys):
    workdir = write_planted(tmp_path)
    build_clusters(workdir, FAST)
    monkeypatch.setattr(cluster, "MODEL_VERSION", cluster.MODEL_VERSION + 1)
    build_clusters(workdir, FAST)
    assert "out of date (method changed); writing it anew" in capsys.readouterr().err


def test_lost_topics_are_written_again_from_the_clusters(tmp_path):
    workdir = write_planted(tmp_path)
    build_clusters(workdir, FAST)
    first = TableReader(workdir.topics, TOPICS).read()
    workdir.topics.unlink()
    build_clusters(workdir, FAST)
    assert TableReader(workdir.topics, TOPICS).read().equals(first)


def test_an_interrupted_run_goes_on_with_the_same_model(tmp_path):
    workdir = write_planted(tmp_path)
    build_clusters(workdir, FAST)
    whole = values(workdir)
    (workdir.clusters / MANIFEST).unlink()
    (workdir.clusters / "part-00001.parquet").unlink()
    kept = (workdir.clusters / "part-00000.parquet").stat().st_mtime_ns
    fitted = (workdir.clusters / "_model" / "model.json").stat().st_mtime_ns
    build_clusters(workdir, FAST)
    assert values(workdir).equals(whole)
    assert (workdir.clusters / "part-00000.parquet").stat().st_mtime_ns == kept
    assert (workdir.clusters / "_model" / "model.json").stat().st_mtime_ns == fitted


def test_other_settings_say_what_changed(tmp_path, capsys):
    workdir = write_planted(tmp_path)
    build_clusters(workdir, FAST)
    manifest = build_clusters(workdir, ClusterConfig(method="kmeans", num_clusters=5, workers=1))
    assert "num_clusters was 4, is 5" in capsys.readouterr().err
    assert manifest["num_topics"] == 5
    assert topics_are_current(workdir.topics, manifest["fingerprint"])


def test_any_number_of_workers_and_any_shards_give_the_same_values(tmp_path):
    texts, kinds = planted_texts()
    results = []
    for name, per_shard, workers in (("a", 80, 1), ("b", 80, 2), ("c", 33, 1)):
        workdir = Workdir(tmp_path / name)
        write_tables(workdir, texts, kinds, planted_vectors(), per_shard)
        build_clusters(workdir, ClusterConfig(num_topics=3, workers=workers))
        results.append(values(workdir).combine_chunks())
    assert results[0].equals(results[1]) and results[0].equals(results[2])


def vectors_in_two_parts():
    """(316, 40): 12 kinds that run into each other, and 16 equal samples that are near to nothing else."""
    generator = np.random.default_rng(0)
    vectors = np.zeros((300, 40))
    vectors[:, :30] = np.eye(12, 30)[np.repeat(np.arange(12), 25)] + generator.normal(scale=0.25, size=(300, 30))
    vectors = np.vstack([vectors, np.eye(40)[np.full(16, 39)]])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_graph_in_two_parts_gives_the_same_topics_in_every_process(tmp_path):
    """Where a part hangs together equally everywhere, UMAP's own start is another one each time."""
    vectors = vectors_in_two_parts()
    tables = []
    for workers in (1, 2):
        workdir = Workdir(tmp_path / str(workers))
        write_tables(workdir, [f"sample {number}" for number in range(316)], ["web"] * 316, vectors, per_shard=200)
        settings = ("--method", "top2vec", "--min-topic-samples", 8, "--workers", workers)
        done = toremi("cluster", "-w", workdir.root, *settings, timeout=1200)
        assert done.returncode == 0, done.stderr
        tables.append(values(workdir).combine_chunks())
    assert tables[0].equals(tables[1])
    assert len(set(tables[0]["topic"].to_pylist())) > 5


@pytest.mark.parametrize("method", ["fused", "kmeans"])
def test_shards_done_in_any_order_give_the_same_values(method, tmp_path):
    workdir = write_planted(tmp_path)
    build_clusters(workdir, ClusterConfig(method=method, num_topics=3, workers=1))
    whole, record = values(workdir), read_manifest(workdir.clusters)
    provenance = provenance_of(CLUSTERS, record["command"], record["config"], record["inputs"])
    shards = sorted(workdir.clusters.glob("*.parquet"))
    for shard in shards:
        shard.unlink()
    for number in (2, 0, 1):
        assign_shard(workdir, provenance, 0.0, number)
    assert sorted(workdir.clusters.glob("*.parquet")) == shards and values(workdir).equals(whole)


def test_each_footer_is_read_once_for_all_shards(tmp_path, monkeypatch):
    workdir = write_planted(tmp_path)
    build_clusters(workdir, ClusterConfig(num_topics=3, workers=1))
    record = read_manifest(workdir.clusters)
    another = provenance_of(CLUSTERS, record["command"], record["config"], {"another": "plan"})
    opened = []
    monkeypatch.setattr(tables, "open_shard", lambda path, table: opened.append(path) or open_shard(path, table))
    for number in range(3):
        assign_shard(workdir, another, 0.0, number)
    shards = [*workdir.samples.glob("*.parquet"), *workdir.embeddings.glob("*.parquet")]
    assert sorted(opened) == sorted(2 * shards), "once for its footer, once for its rows"


def test_samples_below_the_least_agreement_get_no_topic(fused, tmp_path):
    agreement = values(fused[0])["agreement"].to_numpy()
    threshold = float(np.median(agreement))
    workdir = write_planted(tmp_path)
    manifest = build_clusters(workdir, ClusterConfig(num_topics=3, min_agreement=threshold, workers=1))
    rows = values(workdir)
    unsettled = rows["topic"].to_numpy() == NO_TOPIC
    assert np.array_equal(unsettled, agreement < threshold) and 0.3 < unsettled.mean() < 0.7
    assert manifest["coverage"] == pytest.approx(1 - unsettled.mean())
    counted = sum(row["num_samples"] for row in TableReader(workdir.topics, TOPICS).read().to_pylist())
    assert counted == (~unsettled).sum()


def test_fitting_is_on_a_bounded_fair_sample_of_the_train_split(tmp_path):
    workdir = write_planted(tmp_path)
    samples, embeddings = TableReader(workdir.samples, SAMPLES), TableReader(workdir.embeddings, EMBEDDINGS)
    texts, vectors = sample_to_fit(samples, embeddings, ClusterConfig(fit_samples=60))
    assert len(texts) == 60 and vectors.shape == (60, planted_vectors().shape[1])
    rows = {row["text"]: row for row in samples.read().to_pylist()}
    assert {rows[text]["split"] for text in texts} == {"train"}
    per_source = [sum(rows[text]["source"] == kind for text in texts) for kind in ("news", "python", "licence")]
    assert per_source == [20, 20, 20]
    again, _ = sample_to_fit(samples, embeddings, ClusterConfig(fit_samples=60))
    other, _ = sample_to_fit(samples, embeddings, ClusterConfig(fit_samples=60, seed=1))
    assert again == texts and other != texts


def test_embeddings_of_other_samples_are_refused(tmp_path):
    texts, kinds = planted_texts()
    workdir, fewer = write_planted(tmp_path / "a"), Workdir(tmp_path / "b")
    write_tables(fewer, texts[:100], kinds[:100], planted_vectors()[:100])
    for shard in workdir.embeddings.iterdir():
        shard.unlink()
    workdir.embeddings.rmdir()
    fewer.embeddings.rename(workdir.embeddings)
    with pytest.raises(TableError, match=r"100 rows in 2 shards, but .* has 200 in 3"):
        build_clusters(workdir, FAST)


def test_embeddings_in_another_order_are_refused(tmp_path):
    workdir = write_planted(tmp_path)
    shard = workdir.embeddings / "part-00001.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.take(pa.array(range(table.num_rows - 1, -1, -1))), shard)
    with pytest.raises(TableError, match=r"not those of .* in the same order"):
        build_clusters(workdir, FAST)


def test_a_damaged_model_is_named(tmp_path):
    workdir = write_planted(tmp_path)
    build_clusters(workdir, FAST)
    (workdir.clusters / MANIFEST).unlink()
    (workdir.clusters / "part-00001.parquet").unlink()
    (workdir.clusters / "_model" / "centres.npy").write_bytes(b"no")
    with pytest.raises(TableError, match="no whole topic model"):
        build_clusters(workdir, FAST)


def test_fine_topics_roll_up_into_coarse_ones(tmp_path):
    workdir = write_planted(tmp_path)
    build_clusters(workdir, ClusterConfig(method="kmeans", num_clusters=9, levels=3, workers=1))
    rows = TableReader(workdir.topics, TOPICS).read().to_pylist()
    assert [len({row["parents"][level] for row in rows}) for level in (0, 1)] == [4, 2]
    for level in (0, 1):
        names = {(row["parents"][level], row["parent_names"][level]) for row in rows}
        assert len(names) == len({name for _, name in names}) == (4, 2)[level], "a name for each coarse topic"
    kind_of_group = {}
    for row in rows:  # no coarse topic of the first level mixes the kinds that were planted
        kind_of_group.setdefault(row["parents"][0], set()).add(row["sources"][0]["source"])
    assert all(len(kinds) == 1 for kinds in kind_of_group.values())


def test_another_threshold_of_agreement_takes_the_model_that_is_there(tmp_path):
    workdir = write_planted(tmp_path)
    build_clusters(workdir, ClusterConfig(num_topics=3, workers=1))
    model, probs = workdir.clusters / "_model" / "model.json", values(workdir)["probs"]
    fitted = model.stat().st_mtime_ns
    manifest = build_clusters(workdir, ClusterConfig(num_topics=3, min_agreement=1.0, workers=1))
    assert manifest["coverage"] < 1 and values(workdir)["probs"].equals(probs)
    assert model.stat().st_mtime_ns == fitted
    build_clusters(workdir, ClusterConfig(num_topics=3, min_agreement=1.0, seed=1, workers=1))
    assert model.stat().st_mtime_ns != fitted


def test_the_model_is_arrays_and_json(fused):
    workdir, manifest = fused
    kinds = {path.suffix for path in (workdir.clusters / "_model").iterdir()}
    assert kinds == {".npy", ".json"}
    description = json.loads((workdir.clusters / "_model" / "model.json").read_text())
    assert description["reason"] == manifest["reason"] == read_manifest(workdir.clusters)["reason"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "bertopic"}, "--method bertopic: expected one of fused, kmeans, lda, top2vec"),
        ({"num_topics": 0}, "--num-topics 0: expected a whole number of at least 1"),
        ({"num_clusters": 5}, "--num-clusters goes with --method kmeans"),
        ({"method": "kmeans", "num_clusters": 5, "num_topics": 5}, "give one"),
        ({"min_agreement": 1.5}, "--min-agreement 1.5"),
        ({"min_agreement": 0.5, "method": "lda"}, "needs two views"),
        ({"min_topic_samples": 1}, "--min-topic-samples 1"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(UsageError, match=message):
        ClusterConfig(**settings)


@pytest.mark.parametrize("method", ["fused", "kmeans"])
def test_samples_without_a_known_word_have_no_topic(tmp_path, method):
    vectors = planted_vectors().copy()
    vectors[[1, 40]] = 0
    workdir = Workdir(tmp_path)
    write_tables(workdir, *planted_texts(), vectors)
    number = {"num_clusters": 3} if method == "kmeans" else {"num_topics": 3}
    manifest = build_clusters(workdir, ClusterConfig(method=method, **number, workers=1))
    rows = values(workdir).to_pylist()
    assert [n for n, row in enumerate(rows) if row["topic"] == NO_TOPIC] == [1, 40]
    assert rows[1]["agreement"] == rows[40]["agreement"] == 0
    assert manifest["num_without_known_words"] == 2 and manifest["coverage"] == pytest.approx(1 - 2 / len(rows))
