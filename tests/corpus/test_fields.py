import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.corpus.test_readers import jsonl, put, read
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.readers import Corpus, ReadReport
from toremi_cli.errors import CorpusError

PILE = [{"text": "a", "meta": {"pile_set_name": "Wikipedia (en)", "n": 1}, "key": {"id": "x1"}}]


def skipping(path):
    report = ReadReport()
    return [d.text for d in Corpus(str(path), CorpusConfig(on_error="skip")).documents(report)], report


@pytest.mark.parametrize("form", ["jsonl", "parquet", "text in jsonl", "text in parquet"])
def test_a_field_in_a_field(tmp_path, form):
    rows = [{**PILE[0], "meta": json.dumps(PILE[0]["meta"])}] if form.startswith("text") else PILE
    path = tmp_path / f"a.{form.split()[-1]}"
    if form.endswith("jsonl"):
        put(path, jsonl(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    (document,) = read(path, source_field="meta.pile_set_name", id_field="key.id")
    assert (document.text, document.source, document.id) == ("a", "Wikipedia (en)", "x1")
    with pytest.raises(CorpusError, match=r"no field 'meta.set' \(found .*; in meta: pile_set_name, n\)|no field"):
        read(path, source_field="meta.set")


def test_the_text_in_a_field_and_a_name_that_has_a_dot(tmp_path):
    path = put(tmp_path / "a.jsonl", jsonl([{"doc": {"body": "inner"}, "a.b": "whole", "a": {"b": "inner"}}]))
    assert read(path, text_field="doc.body")[0].text == "inner"
    assert read(path, text_field="a.b")[0].text == "whole"
    assert read(put(tmp_path / "b.jsonl", jsonl([{"doc": None}, {"doc": {"body": "x"}}])), text_field="doc.body")
    with pytest.raises(CorpusError, match=r"a.jsonl:1: no field 'doc.text' \(found doc, a.b, a; in doc: body\)"):
        read(path, text_field="doc.text")


def test_hive_partitions_give_their_keys(tmp_path):
    put(tmp_path / "source=web%20pages" / "lang=en" / "a.jsonl", jsonl([{"text": "a"}, {"text": "b", "lang": "own"}]))
    put(tmp_path / "source=books" / "lang=de" / "b.txt", b"c")
    (tmp_path / "source=code" / "lang=en").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["d"]}), tmp_path / "source=code" / "lang=en" / "part-0.parquet")
    assert [(d.text, d.source) for d in read(tmp_path)] == [
        ("c", "books"),
        ("d", "code"),
        ("a", "web pages"),
        ("b", "web pages"),
    ]
    assert [d.source for d in read(tmp_path, source_field="lang")] == ["de", "en", "en", "own"]
    assert [d.source for d in read(tmp_path / "source=code")] == ["code"], "of folders above the corpus as well"


def test_parquet_strings_that_are_no_utf8(tmp_path):
    texts = pa.array([b"fine", b"bad \xff", b"good"]).cast(pa.binary()).view(pa.binary())
    strings = pa.StringArray.from_buffers(3, *texts.buffers()[1:])
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": strings, "n": [1, 2, 3]}), path)
    with pytest.raises(CorpusError, match=r"a.parquet:2: field 'text': not UTF-8 \(byte 0xff\).*--on-error skip"):
        read(path)
    found, report = skipping(path)
    assert found == ["fine", "good"] and report.num_skipped == 1


def test_parquet_bytes_that_are_text(tmp_path):
    rows = {"text": [b"a", b"b\xff"], "id": [b"x1", b"x2"], "source": [b"web", b"web"]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    found, report = skipping(tmp_path / "a.parquet")
    assert found == ["a"] and report.problems[0].endswith("a.parquet:2: field 'text' is not UTF-8")
    pq.write_table(pa.table({name: values[:1] for name, values in rows.items()}), tmp_path / "a.parquet")
    assert [(d.id, d.source) for d in read(tmp_path / "a.parquet")] == [("x1", "web")]


def test_a_parquet_column_named_twice_is_refused(tmp_path):
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), tmp_path / "a.parquet"
    )
    with pytest.raises(CorpusError, match=r"a.parquet: names the field 'text' twice"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["id", "source"])
def test_half_a_surrogate_pair_in_a_name_is_refused(tmp_path, name):
    path = put(tmp_path / "a.jsonl", jsonl([{"text": "one"}]) + f'{{"text": "two", "{name}": "x\\ud800"}}\n'.encode())
    with pytest.raises(CorpusError, match=rf"a.jsonl:2: field '{name}' holds half of a surrogate pair \(\\ud800\)"):
        read(path)
    found, report = skipping(path)
    assert found == ["one"] and report.num_skipped == 1
    report.problems[0].encode()
