import gzip
import json
import os

import pytest

from tests.corpus.test_readers import put, read
from toremi_cli.corpus import json_values
from toremi_cli.corpus.rows import Wanted
from toremi_cli.errors import CorpusError

ROWS = [{"text": f'Text {i}, with [brackets] and "quotes" {{}} é 🙂\n', "id": f"d{i}"} for i in range(40)]
WRITTEN = {
    "array": json.dumps(ROWS),
    "indented array": json.dumps(ROWS, indent=2, ensure_ascii=False),
    "array of lines": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "indented objects": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "objects on one line": " ".join(map(json.dumps, ROWS)),
    "lines that end in CR": "\r".join(map(json.dumps, ROWS)),
    "array after a mark of UTF-8 and space": "\ufeff\n \t" + json.dumps(ROWS, ensure_ascii=False),
    "lines after blank ones": "\ufeff\n\n" + "\n".join(map(json.dumps, ROWS)),
}


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("chunk", [7, 1 << 18])
def test_every_form_gives_the_same_documents(tmp_path, monkeypatch, form, chunk):
    monkeypatch.setattr(json_values, "CHUNK_CHARS", chunk)
    documents = read(put(tmp_path / "a.json.gz", gzip.compress(WRITTEN[form].encode())))
    assert [(d.id, d.text) for d in documents] == [(row["id"], row["text"]) for row in ROWS]


def test_rows_of_an_array_have_ids_of_their_own(tmp_path):
    documents = read(put(tmp_path / "a.json", b'[{"text": "a"}, {"text": "b"}]'))
    assert [d.id for d in documents] == ["a.json:1", "a.json:2"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'[\n{"text": "a"},\n{"text" "b"}\n]', r"a.json:3: not valid JSON \(Expecting ':'"),
        (b'[\n{"text": "a"}\n{"text": "b"}\n]', r"a.json:3: not valid JSON \(expected ',' or '\]'\)"),
        (b'[\n{"text": "a"},\n{"text": "b', r"a.json:3: not valid JSON \(Unterminated string"),
        (b'[{"text": "a"}] {}', r"a.json:1: not valid JSON \(expected nothing after the array\)"),
        (b'[{"text": "a"},\n3]', r"a.json:2: a JSON int; expected an object"),
        (b'{\n "version": 1,\n "data": [{"text": "a"}]\n}', r"a.json:1: no text field \(found version, data\)"),
        (b'{\n "text": "a\xff"\n}', r"a.json: not UTF-8 near line"),
    ],
)
def test_what_is_broken_is_named(tmp_path, data, why):
    with pytest.raises(CorpusError, match=why):
        read(put(tmp_path / "a.json", data))


def test_a_broken_value_does_not_cost_the_memory_of_the_file(tmp_path):
    path = put(tmp_path / "a.json", b'[{"text": "a"}, {"text" 1},\n' + b'{"text": "b"},\n' * 200_000 + b"{}]")
    opened = os.open(path, os.O_RDONLY)
    with os.fdopen(os.dup(opened), "rb") as file, pytest.raises(CorpusError, match=r"a.json:1: not valid JSON"):
        list(json_values.json_rows(file, "a.json", Wanted((), ())))
    assert os.lseek(opened, 0, os.SEEK_CUR) < 2 * json_values.CHUNK_CHARS, "the rest is not read"
    os.close(opened)


def test_an_array_on_one_line_is_not_read_whole(tmp_path):
    path = put(tmp_path / "a.json", json.dumps([{"text": "a"}] * 200_000).encode())
    opened = os.open(path, os.O_RDONLY)
    with os.fdopen(os.dup(opened), "rb") as file:
        assert next(json_values.json_rows(file, "a.json", Wanted((), ()))) == (1, {"text": "a"})
    assert os.lseek(opened, 0, os.SEEK_CUR) < 2 * json_values.CHUNK_CHARS
    os.close(opened)


@pytest.mark.parametrize("data", [b"", b"\n", b" \n\t ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_file_of_nothing_but_space_has_no_rows(tmp_path, data):
    with put(tmp_path / "a.json", data).open("rb") as file:
        assert list(json_values.json_rows(file, "a.json", Wanted((), ()))) == []
