"""Token files, read back by their published layouts."""

import json
import struct

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from tests.bpe import make_tokenizer
from tests.evaluate.workdirs import make_annotated
from tests.realtext import news_articles
from tests.shell import assert_one_line_error, call


@pytest.fixture
def workdir(tmp_path):
    make_annotated(tmp_path)
    make_tokenizer(tmp_path / "tokenizer")
    return tmp_path


def export(workdir, *arguments):
    process = call("export", "-w", workdir, "--to", "tokens", "-o", workdir / "out", *arguments)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def expected_tokens(workdir):
    """Tokens of each training document with the end-of-text token, by source, as `make_annotated` splits them."""
    tokenizer = Tokenizer.from_file(str(workdir / "tokenizer" / "tokenizer.json"))
    found = {}
    for number, text in enumerate(news_articles()[:45]):
        if number // 3 % 3 == 0:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            found.setdefault(("paper", "radio", "wire")[number % 3], []).append(ids)
    return found


def read_megatron(prefix):
    """Documents of an indexed dataset, by megatron/core/datasets/indexed_dataset.py."""
    index = prefix.with_name(prefix.name + ".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, num_sequences, num_documents = struct.unpack("<QBQQ", index[9:34])
    assert version == 1 and num_documents == num_sequences + 1
    dtype = {8: np.uint16, 4: np.int32}[code]
    lengths = np.frombuffer(index, np.int32, num_sequences, 34)
    pointers = np.frombuffer(index, np.int64, num_sequences, 34 + lengths.nbytes)
    documents = np.frombuffer(index, np.int64, num_documents, 34 + lengths.nbytes + pointers.nbytes)
    assert documents.tolist() == list(range(num_documents))
    assert len(index) == 34 + lengths.nbytes + pointers.nbytes + documents.nbytes
    data = prefix.with_name(prefix.name + ".bin").read_bytes()
    return [np.frombuffer(data, dtype, n, at).tolist() for n, at in zip(lengths, pointers, strict=True)]


def test_megatron_reads_the_documents_by_source(workdir):
    record = export(workdir)
    for source, documents in expected_tokens(workdir).items():
        with_end = [[*ids, record["eos_id"]] for ids in documents]
        assert read_megatron(workdir / "out" / f"{source}_text_document") == with_end
    assert {part["part"]: part["tokens"] for part in record["parts"]} == {
        source: sum(len(ids) + 1 for ids in documents) for source, documents in expected_tokens(workdir).items()
    }
    assert export(workdir) == record, "an earlier export is replaced"


def test_bare_arrays_by_topic_with_documents_and_topics_beside_them(workdir):
    record = export(workdir, "--by", "topic", "--format", "numpy")
    files = {part["part"]: workdir / "out" / part["file"] for part in record["parts"]}
    assert set(files) <= {"Politics", "Sports", "People", "(no topic)"} and len(files) >= 3
    tokens = {part: np.memmap(file, record["dtype"], "r") for part, file in files.items()}
    rows = pq.read_table(workdir / "out" / "documents.parquet").to_pylist()
    found = {}
    for row in rows:
        own = tokens[row["part"]][row["begin"] : row["begin"] + row["num_tokens"]].tolist()
        assert own[-1] == record["eos_id"]
        assert row["part"] in (row["topics"] or ["(no topic)"])
        assert sum(row["probs"]) == pytest.approx(1) or not row["topics"]
        found.setdefault(row["source"], []).append(own[:-1])
    assert found == expected_tokens(workdir)
    assert sum(map(len, tokens.values())) == sum(row["num_tokens"] for row in rows)


def test_what_cannot_be_written_is_said(workdir):
    (workdir / "out").mkdir()
    (workdir / "out" / "mine").touch()
    for arguments, part in (
        (["-o", workdir / "x", "--format", "parquet"], "--format parquet: expected megatron or numpy"),
        (["-o", workdir / "x", "--by", "colour"], "--by colour: expected one of source, topic"),
        (["-o", workdir / "out"], "is not empty and no such export"),
        ([], "--to tokens: name its folder"),
    ):
        assert_one_line_error(call("export", "-w", workdir, "--to", "tokens", *arguments), part)
    assert not (workdir / "x").exists()
