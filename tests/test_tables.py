import json
import resource

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from toremi_cli.errors import TableError
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import EMBEDDINGS, SAMPLES, TABLES, WEIGHTS
from toremi_cli.stage import StageFolder
from toremi_cli.tables import TableReader, open_shard, read_manifest, shard_writer, write_table


def sample_rows(count, start=0):
    return [
        {
            "sample_id": f"d{i}#0",
            "doc_id": f"d{i}",
            "source": "s",
            "split": "train",
            "text": f"text {i}",
            "num_tokens": 2,
            "num_bytes": 6,
        }
        for i in range(start, start + count)
    ]


def plan(**config):
    return provenance_of(SAMPLES, "toremi embed", config, {"corpus": "abc"})


def write_stage(folder, num_shards=2, **config):
    stage = StageFolder(folder, SAMPLES, plan(**config))
    stage.begin()
    for index in stage.pending(num_shards):
        with stage.writer(index) as writer:
            writer.write(sample_rows(3, start=3 * index))
    stage.finish(num_shards)
    return stage


def test_a_table_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, SAMPLES, sample_rows(5), plan(max_tokens=8))
    reader = TableReader(path, SAMPLES)
    assert reader.read().to_pylist() == sample_rows(5)
    assert reader.record["config"] == {"max_tokens": 8}
    assert reader.fingerprint == plan(max_tokens=8).fingerprint


def test_vectors_are_fixed_size_lists_of_float32(tmp_path):
    path = tmp_path / "e.parquet"
    write_table(path, EMBEDDINGS, [{"sample_id": "a", "vector": [1.0, 0.0]}], plan(), dim=2)
    assert pq.read_schema(path).field("vector").type == pa.list_(pa.float32(), 2)


def test_vectors_are_stored_by_byte_and_every_table_is_written(tmp_path):
    for table in TABLES.values():
        write_table(tmp_path / f"{table.name}.parquet", table, [], plan(), dim=2)
    values = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    rows = pa.table(
        {"sample_id": list(map(str, range(2000))), "vector": pa.FixedSizeListArray.from_arrays(values.ravel(), 16)}
    )
    write_table(tmp_path / "e.parquet", EMBEDDINGS, rows, plan(), dim=16)
    column = pq.read_metadata(tmp_path / "e.parquet").row_group(0).column(1)
    assert column.total_compressed_size < values.nbytes, "a dictionary would make random floats larger"
    assert pq.read_table(tmp_path / "e.parquet")["vector"].to_pylist() == values.tolist()


def test_fingerprint_follows_config_and_inputs_only():
    base = provenance_of(SAMPLES, "toremi embed", {"a": 1}, {"corpus": "x"})
    assert base.fingerprint == provenance_of(SAMPLES, "toremi annotate", {"a": 1}, {"corpus": "x"}).fingerprint
    assert base.fingerprint != provenance_of(SAMPLES, "toremi embed", {"a": 2}, {"corpus": "x"}).fingerprint
    assert base.fingerprint != provenance_of(SAMPLES, "toremi embed", {"a": 1}, {"corpus": "y"}).fingerprint


def test_a_finished_folder_reads_as_one_dataset_for_everyone(tmp_path):
    write_stage(tmp_path / "samples")
    assert ds.dataset(tmp_path / "samples").count_rows() == 6
    assert read_manifest(tmp_path / "samples")["num_rows"] == 6


def test_an_unfinished_folder_is_refused(tmp_path):
    stage = StageFolder(tmp_path / "samples", SAMPLES, plan())
    stage.begin()
    with stage.writer(0) as writer:
        writer.write(sample_rows(1))
    with pytest.raises(TableError, match="unfinished; run `toremi embed` again"):
        TableReader(tmp_path / "samples", SAMPLES)


def test_a_rerun_keeps_finished_shards(tmp_path):
    stage = StageFolder(tmp_path / "samples", SAMPLES, plan())
    stage.begin()
    with stage.writer(0) as writer:
        writer.write(sample_rows(1))
    again = StageFolder(tmp_path / "samples", SAMPLES, plan())
    again.begin()
    assert list(again.pending(3)) == [1, 2]


def test_a_stale_folder_says_why_and_is_redone(tmp_path, capsys):
    write_stage(tmp_path / "samples", num_shards=3, max_tokens=512)
    stage = write_stage(tmp_path / "samples", num_shards=2, max_tokens=1024)
    assert "max_tokens was 512, is 1024" in capsys.readouterr().err
    assert stage.is_finished()
    assert len(list((tmp_path / "samples").glob("*.parquet"))) == 2, "the third shard of the older table is gone"


def test_a_damaged_shard_makes_the_stage_unfinished(tmp_path):
    stage = write_stage(tmp_path / "samples")
    shard = stage.path(1)
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    assert not stage.is_finished()
    with pytest.raises(TableError, match=r"part-00001\.parquet: not a whole Parquet file"):
        TableReader(tmp_path / "samples", SAMPLES)


def test_finish_refuses_to_bless_missing_shards(tmp_path):
    stage = StageFolder(tmp_path / "samples", SAMPLES, plan())
    stage.begin()
    with pytest.raises(TableError, match=r"part-00000\.parquet: was not written"):
        stage.finish(1)


def test_a_stage_does_not_overwrite_other_peoples_tables(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    pq.write_table(pa.table({"x": [1]}), folder / "precious.parquet")
    with pytest.raises(TableError, match="toremi did not write"):
        StageFolder(folder, SAMPLES, plan())


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, SAMPLES, sample_rows(1), plan())
    with pytest.raises(RuntimeError), shard_writer(path, SAMPLES, plan()) as writer:
        writer.write(sample_rows(2))
        raise RuntimeError("the power went out")
    assert TableReader(path, SAMPLES).num_rows == 1
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_a_table_has_more_shards_than_files_may_be_open(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    row = pa.table({"sample_id": ["a"], "vector": pa.array([[1.0]], pa.list_(pa.float32(), 1))})
    (tmp_path / "many").mkdir()
    for number in range(150):
        pq.write_table(row, tmp_path / "many" / f"part-{number:05d}.parquet")
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        assert TableReader(tmp_path / "many", EMBEDDINGS).num_rows == 150
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_wrong_table_is_named_with_what_is_missing(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, SAMPLES, sample_rows(1), plan())
    with pytest.raises(
        TableError,
        match=r"not a 'weights' table \(`toremi pretrain` writes it\): without step, tokens_seen.*found sample_id",
    ):
        open_shard(path, WEIGHTS)


def test_a_column_of_the_wrong_type_is_named(tmp_path):
    rows = {name: ["x"] for name in SAMPLES.column_names}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="column 'num_tokens' has type string, expected int32"):
        open_shard(tmp_path / "t.parquet", SAMPLES)


def test_a_foreign_folder_is_read_and_fingerprinted(tmp_path):
    pq.write_table(pa.Table.from_pylist(sample_rows(2)), tmp_path / "a.parquet")
    reader = TableReader(tmp_path, SAMPLES)
    first = reader.fingerprint
    assert reader.num_rows == 2
    pq.write_table(pa.Table.from_pylist(sample_rows(3)), tmp_path / "a.parquet")
    assert TableReader(tmp_path, SAMPLES).fingerprint != first


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_nothing_there_is_said_clearly(tmp_path, make):
    path = tmp_path / "samples"
    make(path)
    with pytest.raises(TableError, match=r"no such file or folder|no Parquet file in this folder"):
        TableReader(path, SAMPLES)


def test_a_broken_manifest_is_named(tmp_path):
    stage = write_stage(tmp_path / "samples")
    (stage.folder / "_manifest.json").write_text("{")
    with pytest.raises(TableError, match=r"_manifest\.json: not valid JSON"):
        stage.is_finished()


def test_manifest_is_plain_json(tmp_path):
    stage = write_stage(tmp_path / "samples", seed=3)
    manifest = json.loads((stage.folder / "_manifest.json").read_text())
    assert manifest["config"] == {"seed": 3}
    assert manifest["num_shards"] == 2
