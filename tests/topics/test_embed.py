import numpy as np
import pytest

from tests.corpus.test_stage import write_corpus
from tests.realtext import news_articles
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.stage import build_samples
from toremi_cli.errors import TableError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.schemas import EMBEDDINGS, SAMPLES
from toremi_cli.tables import MANIFEST, TableReader
from toremi_cli.topics.embed import EmbedConfig, build_embeddings, draw_texts
from toremi_cli.topics.vectors import VECTORS_VERSION

FAST = EmbedConfig(dim=12, fit_samples=60, workers=1)


@pytest.fixture
def workdir(tmp_path):
    corpus = write_corpus(tmp_path / "c", a=news_articles()[:60], b=news_articles()[60:90])
    workdir = Workdir(tmp_path / "out")
    build_samples(str(corpus), workdir, CorpusConfig(vocab_size=600, max_tokens=256, shard_samples=40))
    return workdir


def vectors(workdir):
    table = TableReader(workdir.embeddings, EMBEDDINGS).read()
    return table["sample_id"].to_pylist(), np.array(table["vector"].to_pylist(), dtype=np.float32)


def test_a_vector_for_every_sample_shard_by_shard(workdir):
    manifest = build_embeddings(workdir, FAST)
    samples, embeddings = TableReader(workdir.samples, SAMPLES), TableReader(workdir.embeddings, EMBEDDINGS)
    assert samples.rows_per_shard == embeddings.rows_per_shard and len(samples.shards) > 2
    ids, matrix = vectors(workdir)
    assert ids == samples.read(["sample_id"])["sample_id"].to_pylist()
    assert manifest["dim"] == 12 and matrix.shape == (len(ids), 12)
    lengths = np.linalg.norm(matrix, axis=1)
    assert np.mean(np.isclose(lengths, 1, atol=1e-5)) > 0.95
    assert np.all(np.isclose(lengths, 1, atol=1e-5) | (lengths == 0)), "zero where no word is known"


def test_only_what_is_missing_is_written_with_the_same_model(workdir, capsys):
    build_embeddings(workdir, FAST)
    ids, matrix = vectors(workdir)
    model = sorted(p.stat().st_mtime_ns for p in (workdir.embeddings / "_model").iterdir())
    capsys.readouterr()
    build_embeddings(workdir, FAST)
    assert "up to date" in capsys.readouterr().err
    (workdir.embeddings / MANIFEST).unlink()
    (workdir.embeddings / "part-00001.parquet").unlink()
    kept = (workdir.embeddings / "part-00000.parquet").stat().st_mtime_ns
    build_embeddings(workdir, FAST)
    assert (workdir.embeddings / "part-00000.parquet").stat().st_mtime_ns == kept
    assert sorted(p.stat().st_mtime_ns for p in (workdir.embeddings / "_model").iterdir()) == model
    assert vectors(workdir)[0] == ids and np.array_equal(vectors(workdir)[1], matrix)


def test_changed_settings_or_samples_make_them_stale(workdir, tmp_path, capsys):
    build_embeddings(workdir, FAST)
    build_embeddings(workdir, EmbedConfig(dim=8, fit_samples=60, workers=1))
    assert "dim was 12, is 8" in capsys.readouterr().err
    build_samples(str(tmp_path / "c"), workdir, CorpusConfig(vocab_size=600, max_tokens=128))
    build_embeddings(workdir, EmbedConfig(dim=8, fit_samples=60, workers=1))
    assert "samples changed" in capsys.readouterr().err
    assert len(vectors(workdir)[0]) == TableReader(workdir.samples, SAMPLES).num_rows


def test_vectors_of_an_older_method_are_learnt_anew(workdir, monkeypatch, capsys):
    build_embeddings(workdir, FAST)
    learnt = (workdir.embeddings / "_model" / "toremi.json").read_text()
    monkeypatch.setitem(VECTORS_VERSION, "doc2vec", VECTORS_VERSION["doc2vec"] + 1)
    build_embeddings(workdir, FAST)
    assert "out of date (method changed); writing it anew" in capsys.readouterr().err
    assert (workdir.embeddings / "_model" / "toremi.json").read_text() != learnt


def test_learning_uses_the_train_split_and_every_source(workdir):
    samples = TableReader(workdir.samples, SAMPLES)
    rows = {row["text"]: row for row in samples.read().to_pylist()}
    drawn = draw_texts(samples, 40, seed=1)
    assert len(drawn) == len(set(drawn)) == 40
    assert {rows[text]["split"] for text in drawn} == {"train"}
    assert sum(rows[text]["source"] == "b" for text in drawn) == 20
    assert draw_texts(samples, 40, seed=1) == drawn != draw_texts(samples, 40, seed=2)


def test_errors(tmp_path):
    with pytest.raises(TableError, match="samples"):
        build_embeddings(Workdir(tmp_path), FAST)
    with pytest.raises(UsageError, match="--vector-dim"):
        EmbedConfig(dim=0)
