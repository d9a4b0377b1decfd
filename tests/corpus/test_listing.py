import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from tests.corpus.test_readers import ROWS, jsonl, put, read
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.listing import list_corpus
from toremi_cli.corpus.readers import Corpus, ReadReport
from toremi_cli.errors import CorpusError, UsageError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 123456\n"
LINE = b'{"text": "a"}\n'


def names(folder, **keys):
    return [file.name for file in list_corpus(str(folder), **keys).files]


def left_out(folder):
    return {name: what for what, some in list_corpus(str(folder)).left_out.items() for name in some}


def sources(folder):
    return {file.name: file.source for file in list_corpus(str(folder)).files}


def test_what_speaks_of_the_data_is_left_out(tmp_path):
    about = ["README.md", "LICENSE.txt", "requirements.txt", "dataset_infos.json", "data/README.md", "load.py"]
    for name in about:
        put(tmp_path / name, b"about")
    put(tmp_path / "data" / "train-00000-of-00001.jsonl", LINE * 100)
    put(tmp_path / "data" / "books" / "readme_of_a_book.txt", b"A book.")
    put(tmp_path / "data" / "books" / "README.md", b"Below no data, a text like others.")
    assert names(tmp_path) == [
        "data/books/README.md",
        "data/books/readme_of_a_book.txt",
        "data/train-00000-of-00001.jsonl",
    ]
    assert sorted(left_out(tmp_path)) == sorted(about)
    assert names(tmp_path / "README.md") == ["README.md"], "named alone"
    put(tmp_path / "alone" / "README.md", b"The only text.")
    assert names(tmp_path / "alone") == ["README.md"]
    put(tmp_path / "alone" / "_notes.md", b"Of a tool.")
    assert names(tmp_path / "alone") == ["README.md"]


def test_what_tools_keep_beside_data_is_left_out_and_told(tmp_path):
    for name in ("_drafts/a.md", "sub/_b.txt", "c.md", "_SUCCESS", ".git/d.md", "_lib/e.py"):
        put(tmp_path / name, b"Text.")
    assert names(tmp_path) == ["_lib/e.py", "c.md"]
    assert left_out(tmp_path) == dict.fromkeys(["_drafts/a.md", "sub/_b.txt"], "named _…, or in a folder so named")


def test_what_the_user_names_is_read_whatever_its_name(tmp_path):
    for name in ("_raw/a.txt", "_raw/_b.txt", "clean/c.txt", "_x.jsonl"):
        put(tmp_path / name, LINE)
    both = list_corpus([str(tmp_path / "_raw"), str(tmp_path / "clean")])
    assert [file.name for file in both.files] == ["_raw/a.txt", "clean/c.txt"]
    assert names(tmp_path / "_x.jsonl") == ["_x.jsonl"]
    assert names(tmp_path) == ["clean/c.txt"]


def test_git_lfs_pointers_are_left_out_or_named(tmp_path):
    put(tmp_path / "a.txt", POINTER)
    put(tmp_path / "b.parquet", POINTER)
    with pytest.raises(CorpusError, match=r"no readable file \(found 2 × Git LFS pointers.*git lfs pull"):
        read(tmp_path)
    put(tmp_path / "c.txt", b"A text " + b"that is about as long as a pointer. " * 4)
    assert names(tmp_path) == ["c.txt"]
    with pytest.raises(CorpusError, match=r"a.txt: is a Git LFS pointer, not the file itself; fetch it with `git lfs"):
        read(tmp_path / "a.txt")
    with pytest.raises(CorpusError, match=r"d.jsonl.gz: is a Git LFS pointer"):
        read(put(tmp_path / "d.jsonl.gz", POINTER))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["c4-train.00000-of-01024.json.gz", "c4-train.00001-of-01024.json.gz"], "c4-train"),
        (["train-00000-of-00002-0a1b2c3d4e5f6071.jsonl", "train-00001-of-00002-1a1b2c3d4e5f6071.jsonl"], "train"),
        (["wiki_000.jsonl", "wiki_001.jsonl.gz"], "wiki"),
        (["cc-8.json.gz", "cc-9.json.gz", "cc-10.json.gz", *(f"cc-{i}.json.gz" for i in range(8))], "cc"),
        (["00.jsonl.gz", "01.jsonl.gz"], "corpus"),
        (["part-00000-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f-c000.jsonl"], "corpus"),
        (["web-2019.jsonl", "web-2020.jsonl"], None),
        (["glove-6.jsonl"], None),
        (["chapter-1.txt", "chapter-2.txt"], None),
    ],
)
def test_shards_of_one_set_are_one_source(tmp_path, files, expected):
    for name in files:
        put(tmp_path / "corpus" / name, gzip.compress(LINE) if name.endswith("gz") else LINE)
    own = {name: name.split(".")[0] for name in files}
    assert sources(tmp_path / "corpus") == (dict.fromkeys(files, expected) if expected else own)


def test_dolma_layout_with_attributes(tmp_path):
    for name in ("pes2o-0000", "pes2o-0001"):
        put(tmp_path / "documents" / f"{name}.json.gz", gzip.compress(jsonl([{"id": name, "text": "t"}])))
        put(
            tmp_path / "attributes" / "toxic" / f"{name}.json.gz",
            gzip.compress(jsonl([{"id": name, "attributes": {}}])),
        )
    assert [(d.id, d.source) for d in read(tmp_path)] == [("pes2o-0000", "pes2o"), ("pes2o-0001", "pes2o")]
    put(tmp_path / "two" / "attributes" / "a.jsonl", LINE)
    assert names(tmp_path / "two") == ["attributes/a.jsonl"], "without documents beside it, a folder like others"


def test_what_datasets_saved_is_read(tmp_path):
    for split in ("train", "test"):
        folder = tmp_path / "saved" / split
        put(folder / "state.json", b"{}")
        put(folder / "dataset_info.json", b"{}")
        table = pa.Table.from_pylist([{**row, "source": split} for row in ROWS])
        for name in ("data-00000-of-00001.arrow", "cache-0123456789abcdef.arrow"):
            with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
    put(tmp_path / "saved" / "dataset_dict.json", b"{}")
    assert [d.source for d in read(tmp_path / "saved")] == ["test"] * 5 + ["train"] * 5
    assert [d.text for d in read(tmp_path / "saved" / "train")] == [row["text"] for row in ROWS]
    assert sources(tmp_path / "saved" / "train") == {"data-00000-of-00001.arrow": "train"}
    table = pa.table({"text": ["of a file with an index"], "n": [1]})
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "b.arrow")[0].text == "of a file with an index"
    with pytest.raises(CorpusError, match=r"c.arrow: not a whole Arrow file"):
        read(put(tmp_path / "c.arrow", (tmp_path / "b.arrow").read_bytes()[:200]))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.json.gz", "a.py"])
def test_utf16_is_named(tmp_path, encoding, name):
    data = '{"text": "größe"}\n'.encode(encoding)
    with pytest.raises(CorpusError, match=f"{name}: is UTF-16, expected UTF-8; convert it: iconv -f UTF-16"):
        read(put(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data))


def test_a_file_name_that_is_no_utf8(tmp_path):
    put(tmp_path / "a.txt", b"fine")
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    put(Path(path), b"text")
    with pytest.raises(CorpusError, match=r"caf\\xe9.txt: its name is not UTF-8; rename it.*--on-error skip") as error:
        read(tmp_path)
    str(error.value).encode()
    report = ReadReport()
    documents = Corpus(str(tmp_path), CorpusConfig(on_error="skip")).documents(report)
    assert [d.text for d in documents] == ["fine"] and report.num_skipped == 1
    with pytest.raises(CorpusError, match=r"caf\\xe9.txt: the path of the corpus is not UTF-8"):
        read(path)


def test_a_pipe_is_passed_over_or_named(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(CorpusError, match=r"a.txt: a pipe or device is read once and a corpus twice: write it to a"):
        read(tmp_path / "a.txt")
    with pytest.raises(CorpusError, match=r"no readable file \(found 1 × pipe or device\)"):
        read(tmp_path)
    put(tmp_path / "b.txt", b"text")
    assert [d.text for d in read(tmp_path)] == ["text"]


def test_source_code_is_text(tmp_path):
    for i in range(12):
        put(tmp_path / "src" / f"m{i}.py", b"import os\n\n\ndef main():\n    return os.getcwd()\n")
    put(tmp_path / "src" / "__init__.py", b"from a import b\n")
    put(tmp_path / "src" / "video.ts", b"G\0\0\0binary")
    put(tmp_path / "src" / ".hidden.py", b"x")
    put(tmp_path / "setup.py", b"from setuptools import setup\n")
    put(tmp_path / "main.go", b"package main\n")
    put(tmp_path / "README.md", b"# A program\n")
    put(tmp_path / "tests" / "data.json", b'{"name": "a program\'s data"}')
    put(tmp_path / "tests" / "texts.jsonl", b'{"text": "a document among code"}\n')
    report = ReadReport()
    found = {d.id: d.source for d in Corpus(str(tmp_path), CorpusConfig()).documents(report)}
    assert found["src/m3.py"] == "src" and "src/__init__.py" in found
    assert (found["setup.py"], found["main.go"], found["README.md"]) == ("Python", "Go", "README")
    assert "tests/texts.jsonl:1" in found and len(found) == 17
    languages = {d.id: d.source for d in read(tmp_path, source_field="language", on_error="skip")}
    assert languages["src/m3.py"] == "Python" and languages["main.go"] == "Go"
    assert report.num_not_text == 2, "what is binary, and data without a text"


def test_endings_can_be_named(tmp_path):
    put(tmp_path / "web" / "a.html", b"<p>A page</p>")
    put(tmp_path / "web" / "b.json", b'{"a": 1}')
    put(tmp_path / "c.toml", b"a = 1")
    assert {d.text for d in read(tmp_path, ext="html,.TOML,json")} == {"<p>A page</p>", '{"a": 1}', "a = 1"}
    with pytest.raises(UsageError, match="--ext parquet: a parquet file is no text"):
        CorpusConfig(ext="parquet")
    with pytest.raises(UsageError, match="--ext a/b: 'a/b' is no file ending"):
        CorpusConfig(ext="a/b")


def test_a_workdir_in_the_corpus_is_left_out(tmp_path):
    put(tmp_path / "web" / "a.txt", b"text")
    put(tmp_path / "work" / "samples" / "_manifest.json", b"{}")
    put(tmp_path / "work" / "notes.txt", b"x")
    put(tmp_path / "now" / "b.jsonl", LINE)
    assert names(tmp_path, workdir=tmp_path / "now") == ["web/a.txt"]
    assert names(tmp_path, workdir=tmp_path / "elsewhere") == ["now/b.jsonl", "web/a.txt"]
    assert names(tmp_path / "now", workdir=tmp_path) == ["b.jsonl"], "a corpus may stand in the workdir"
    put(tmp_path / "samples" / "_plan.json", b"{}")
    put(tmp_path / "tokenizer" / "tokenizer.json", b"{}")
    assert names(tmp_path, workdir=tmp_path) == ["now/b.jsonl", "web/a.txt"], "the corpus' own folder as workdir"


def test_several_paths_are_read_as_their_common_folder(tmp_path):
    for name in ("web/a.jsonl", "web/b.jsonl", "books/c.txt", "d.jsonl"):
        put(tmp_path / name, json.dumps({"text": name}).encode() + b"\n")
    whole = sources(tmp_path)
    paths = [str(tmp_path / name) for name in ("web", "books", "d.jsonl")]
    assert {file.name: file.source for file in list_corpus(paths).files} == whole
    assert [d.text for d in Corpus([*paths[:1], paths[0] + "/a.jsonl"], CorpusConfig()).documents()] == [
        "web/a.jsonl",
        "web/b.jsonl",
    ]
    with pytest.raises(CorpusError, match=r"gone.jsonl: no such file"):
        list_corpus([*paths, str(tmp_path / "gone.jsonl")])
    with pytest.raises(CorpusError, match="is not where"):
        list_corpus([*paths, "memory://x"])
