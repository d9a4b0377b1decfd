"""Tokens made elsewhere: what is read equals what was written, and what cannot be read is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.bpe import make_tokenizer
from tests.shell import assert_one_line_error, toremi
from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.export.token_files import write_tokens
from toremi_cli.lm.token_files import MAGIC, write_index
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.schemas import TRAIN
from toremi_cli.train.foreign import open_foreign_cache
from toremi_cli.train.index_folder import open_index


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    """Folders of tokens in both forms."""
    root = tmp_path_factory.mktemp("tokens")
    topics = SampleTopics("labels", workdir / "topics.parquet")
    for form in ("megatron", "numpy"):
        write_tokens(workdir / "annotated", topics, workdir / "tokenizer", "source", form, root / form)
    return root


def topics_of(index, sample):
    place, topic, prob = index.pairs.of(np.array([sample]))
    assert set(place.tolist()) <= {0}
    return {index.pairs.names[t]: float(p) for t, p in zip(topic.tolist(), prob.tolist(), strict=True)}


@pytest.mark.parametrize("form", ["megatron", "numpy"])
def test_what_export_wrote_is_the_training_samples_again(cache, workdir, exported, tmp_path, form):
    found = open_foreign_cache(tmp_path, exported / form, workdir / "tokenizer")
    own = np.flatnonzero(cache.is_of(TRAIN, slice(None)))
    assert found.meta["num_samples"] == len(own)
    by_label, labels = open_index(cache, "labels"), open_index(found, "labels")
    for k, sample in enumerate(own.tolist()):
        assert found.sample_tokens(k).tolist() == cache.sample_tokens(sample).tolist()
        assert found.tokens[found.offset[k] + found.length[k]] == cache.meta["eos_id"]
        assert found.sources[found.source[k]] == cache.sources[cache.source[sample]]
        assert found.num_bytes[k] == cache.num_bytes[sample]
        assert topics_of(labels, k) == topics_of(by_label, sample)
    assert open_index(found, "fine").topic_sizes[0].sum() == sum(bool(topics_of(labels, k)) for k in range(len(own)))
    again = open_foreign_cache(tmp_path, exported / form, workdir / "tokenizer", build=False)
    assert again.folder == found.folder, "kept"


@pytest.mark.parametrize("name", ["wire_text_document", "wire_text_document.bin", "wire_text_document.idx"])
def test_a_megatron_dataset_needs_nothing_beside_it(cache, workdir, exported, tmp_path, name):
    for suffix in (".bin", ".idx"):
        shutil.copy(exported / "megatron" / f"wire_text_document{suffix}", tmp_path)
    found = open_foreign_cache(tmp_path / "work", tmp_path / name, workdir / "tokenizer")
    wire = cache.sources.index("wire")
    own = [k for k in np.flatnonzero(cache.is_of(TRAIN, slice(None))) if cache.source[k] == wire]
    assert [found.sample_tokens(k).tolist() for k in range(len(own))] == [cache.sample_tokens(k).tolist() for k in own]
    assert found.num_bytes.tolist() == cache.num_bytes[own].tolist(), "told by the vocabulary"
    assert open_index(found, "source").pairs.names == ["wire"]
    with pytest.raises(UsageError, match="has no column 'topic'; add it, or use --topics source"):
        open_index(found, "fine")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("form", "damage", "message"),
    [
        ("megatron", lambda f: cut(f / "wire_text_document.bin"), r"\.idx: wire_text_document\.bin has .* cut short"),
        ("megatron", lambda f: cut(f / "web_text_document.idx"), r"web_text_document\.idx has .* cut short"),
        (
            "megatron",
            lambda f: (f / "web_text_document.idx").write_bytes(MAGIC + b"1"),
            r"\.idx: its header is cut short",
        ),
        (
            "numpy",
            lambda f: cut(f / "wire" / "part-00000.npy"),
            r"part-00000\.npy has .* bytes, .* expected: cut short",
        ),
        ("numpy", lambda f: (f / "documents.parquet").unlink(), "expected a Megatron dataset .* or a folder of .npy"),
        ("numpy", lambda f: shutil.rmtree(f / "web"), r"web/part-00000\.npy: .*No such file"),
    ],
)
def test_damaged_files_are_named(workdir, exported, tmp_path, form, damage, message):
    shutil.copytree(exported / form, tmp_path / "tokens")
    damage(tmp_path / "tokens")
    with pytest.raises(TrainingError, match=message):
        open_foreign_cache(tmp_path, tmp_path / "tokens", workdir / "tokenizer")
    assert not list((tmp_path / "tokens").glob("*/tokens.npy"))


def test_another_tokenizer_is_told_by_the_record_and_by_ids(exported, tmp_path):
    make_tokenizer(tmp_path / "tokenizer", 280, ["few words, so few tokens"])
    shutil.copytree(exported / "megatron", tmp_path / "tokens")
    with pytest.raises(TrainingError, match="tokens of another tokenizer"):
        open_foreign_cache(tmp_path, tmp_path / "tokens", tmp_path / "tokenizer")
    (tmp_path / "tokens" / "_tokens.json").unlink()
    with pytest.raises(TrainingError, match=r"has token \d+, the tokenizer at .* ids from 0 to \d+; name the one"):
        open_foreign_cache(tmp_path, tmp_path / "tokens", tmp_path / "tokenizer")


@pytest.mark.parametrize("lengths", [[0, 0], [1, 1]])
def test_documents_of_nothing_or_an_end_alone_are_nothing_to_train_on(workdir, tmp_path, lengths):
    end = json.loads((workdir / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]["<|endoftext|>"]
    np.full(sum(lengths), end, np.uint16).tofile(tmp_path / "empty.bin")
    write_index(tmp_path / "empty.idx", np.array(lengths), np.dtype(np.uint16))
    with pytest.raises(TrainingError, match="no sample to train on"):
        open_foreign_cache(tmp_path, tmp_path / "empty", workdir / "tokenizer")


def test_a_run_trains_on_them(workdir, exported, pretrain):
    process = pretrain("--tokens", exported / "numpy", "--name", "foreign", "--max-steps", "4")
    assert process.returncode == 0, process.stderr
    record = json.loads((workdir / "runs" / "foreign" / "run.json").read_text())
    assert record["config"]["tokens"] == record["annotated"] == str(exported / "numpy")
    written = toremi("export", "foreign", "-w", workdir, "--to", "weights", "-o", workdir / "foreign.parquet")
    assert written.returncode == 0 and "told by the topics' names alone" in written.stderr
    frozen = ("--policy", "frozen", "--weights-from", workdir / "foreign.parquet", "--topics", "labels")
    assert pretrain(*frozen, "--name", "by-foreign", "--max-steps", "2").returncode == 0
    process = pretrain("--tokens", workdir / "nowhere", "--name", "nowhere")
    assert_one_line_error(process, "--tokens", "nowhere", "expected a Megatron dataset")
