"""Tables of other programs, and of ours in other programs."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.bpe import make_tokenizer
from tests.topics.handmade import TOPIC_OF_SAMPLE, write_clusters, write_samples
from toremi_cli.cli import app
from toremi_cli.errors import TableError, UsageError
from toremi_cli.layout import Workdir
from toremi_cli.schemas import ANNOTATED, SAMPLES
from toremi_cli.tables import TableReader
from toremi_cli.train.index_folder import open_index
from toremi_cli.train.tokens import open_cache

TEXTS = ["one two three", "四 five", "six"]


def annotate(place, *flags):
    return CliRunner().invoke(app, ["annotate", "-w", str(place.root), *flags])


@pytest.fixture
def place(tmp_path):
    """A workdir whose samples are ours, and whose vectors and clusters are the user's own."""
    place = Workdir(tmp_path / "out")
    write_samples(place, TOPIC_OF_SAMPLE)
    write_clusters(place, TOPIC_OF_SAMPLE)
    for path in sorted(place.clusters.glob("*.parquet")):
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    (place.clusters / "_manifest.json").unlink()
    pq.write_table(pq.read_table(place.topics).replace_schema_metadata(None), place.topics)
    place.embeddings.mkdir()
    for index, path in enumerate(sorted(place.samples.glob("*.parquet"))):
        ids = pq.read_table(path, columns=["sample_id"])
        vectors = pa.array(np.eye(3, dtype=np.float32)[[0] * ids.num_rows].tolist(), pa.list_(pa.float32(), 3))
        pq.write_table(ids.append_column("vector", vectors), place.embeddings / f"mine-{index}.parquet")
    return place


def test_annotate_takes_vectors_and_clusters_of_ones_own(place):
    found = annotate(place)
    assert found.exit_code == 0, found.output
    assert f"{place.embeddings}: not written by toremi, taken as it is" in found.stderr.replace("\n", "")
    assert TableReader(place.annotated, ANNOTATED).num_rows == len(TOPIC_OF_SAMPLE)
    refused = annotate(place, "--vector-dim", "8")
    assert refused.exit_code == 2
    assert "--vector-dim" in refused.stderr and "leave the flag out to take it" in refused.stderr.replace("\n", " ")


def test_of_labels_of_ones_own_text_and_labels_are_enough(tmp_path):
    folder = tmp_path / "annotated"
    folder.mkdir()
    pq.write_table(pa.table({"text": TEXTS, "labels": [["A"], ["B", "A"], []]}), folder / "mine.parquet")
    rows = TableReader(folder, ANNOTATED).read().to_pylist()
    assert [row["sample_id"] for row in rows] == [row["doc_id"] for row in rows] == ["mine:0", "mine:1", "mine:2"]
    assert [row["num_bytes"] for row in rows] == [len(text.encode()) for text in TEXTS]
    assert {(row["split"], row["source"], row["topic"]) for row in rows} == {("train", "corpus", -1)}
    with pytest.raises(TableError, match="has no column num_tokens, which this needs"):
        next(TableReader(folder, ANNOTATED).iter_batches(["text", "num_tokens"]))
    make_tokenizer(tmp_path / "tokenizer", 300, TEXTS)
    cache = open_cache(tmp_path, folder, tmp_path / "tokenizer")
    assert open_index(cache, "labels").pairs.names == ["A", "B"]
    with pytest.raises(UsageError, match=r"--topics fine: .* has no column 'topic'; add it, or use --topics labels"):
        open_index(cache, "fine")


@pytest.mark.parametrize("per_shard", [4, 100])
def test_datasets_loads_a_folder_of_one_shard_and_of_many(tmp_path, monkeypatch, per_shard):
    datasets = pytest.importorskip("datasets")
    place = Workdir(tmp_path / "out")
    write_samples(place, TOPIC_OF_SAMPLE, per_shard=per_shard)
    for name in ("_plan.json", "_options.json", "_files.json"):
        (place.samples / name).write_text("{}")
    found = datasets.load_dataset(str(place.samples), cache_dir=str(tmp_path / "cache"), split="train")
    assert found.column_names == SAMPLES.column_names
    assert len(found) == len(TOPIC_OF_SAMPLE)
