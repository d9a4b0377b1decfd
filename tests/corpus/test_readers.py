import gzip
import json
import multiprocessing
import os
import tempfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.listing import list_corpus
from toremi_cli.corpus.readers import Corpus, ReadReport
from toremi_cli.errors import CorpusError, UsageError

ROWS = [{"id": f"d{i}", "text": f"Text número {i} 你好 🙂"} for i in range(5)]


def jsonl(rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def read(path, **config):
    return list(Corpus(str(path), CorpusConfig(**config)).documents())


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_all_formats(folder: Path) -> dict[str, Path]:
    data = jsonl(ROWS)
    frames = zstandard.ZstdCompressor().compress(data[:100]) + zstandard.ZstdCompressor().compress(data[100:])
    csv = b'id,text\r\nd0,"one, ""quoted""\ntwo lines"\r\nd1,plain\r\n'
    files = {
        "jsonl": put(folder / "a.jsonl", data),
        "ndjson": put(folder / "a2.ndjson", data),
        "gz": put(folder / "b.jsonl.gz", gzip.compress(data)),
        "zst": put(folder / "c.jsonl.zst", frames),
        "json.gz": put(folder / "d.json.gz", gzip.compress(data)),
        "csv": put(folder / "e.csv", csv),
        "tsv": put(folder / "f.tsv", b"id\ttext\nd0\tone\n"),
        "csv.gz": put(folder / "g.csv.gz", gzip.compress(csv)),
        "parquet": folder / "h.parquet",
    }
    pq.write_table(pa.Table.from_pylist(ROWS), files["parquet"])
    return files


@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "gz", "zst", "json.gz", "parquet"])
def test_every_row_format_gives_the_same_documents(tmp_path, kind):
    documents = read(write_all_formats(tmp_path)[kind])
    assert [(d.id, d.text) for d in documents] == [(row["id"], row["text"]) for row in ROWS]


@pytest.mark.parametrize("kind", ["csv", "csv.gz"])
def test_csv_with_quoted_line_ends(tmp_path, kind):
    documents = read(write_all_formats(tmp_path)[kind])
    assert [d.text for d in documents] == ['one, "quoted"\ntwo lines', "plain"]


def test_tsv(tmp_path):
    assert [d.text for d in read(write_all_formats(tmp_path)["tsv"])] == ["one"]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.txt.gz"])
def test_a_text_file_is_one_document(tmp_path, name):
    data = "\ufeffLine one.\n\nLine two é.\n".encode()
    put(tmp_path / "web" / name, gzip.compress(data) if name.endswith("gz") else data)
    (document,) = read(tmp_path)
    assert (document.id, document.source, document.text) == (f"web/{name}", "web", "Line one.\n\nLine two é.\n")


def test_source_is_field_then_subfolder_then_file(tmp_path):
    put(tmp_path / "c" / "books" / "deep" / "x.jsonl", jsonl([{"text": "a"}]))
    put(tmp_path / "c" / "books" / "y.jsonl", jsonl([{"text": "b", "source": "own", "kind": "K"}]))
    put(tmp_path / "c" / "loose.jsonl.gz", gzip.compress(jsonl([{"text": "c"}])))
    assert [(d.text, d.source) for d in read(tmp_path / "c")] == [("a", "books"), ("b", "own"), ("c", "loose")]
    assert [d.source for d in read(tmp_path / "c" / "books" / "y.jsonl", source_field="kind")] == ["K"]
    with pytest.raises(CorpusError, match=r"deep/x.jsonl:1: no field 'kind' \(found text\)"):
        read(tmp_path / "c", source_field="kind")


def test_loose_text_files_are_sources_while_they_are_few(tmp_path):
    for i in range(3):
        put(tmp_path / "few" / f"t{i}.txt", b"some text")
    for i in range(60):
        put(tmp_path / "many" / f"t{i}.txt", b"some text")
    assert {d.source for d in read(tmp_path / "few")} == {"t0", "t1", "t2"}
    assert {d.source for d in read(tmp_path / "many")} == {"many"}


def test_ids(tmp_path):
    path = put(tmp_path / "a.jsonl", jsonl([{"text": "a", "id": 7}, {"text": "b"}, {"text": "c", "key": "k"}]))
    assert [d.id for d in read(path)] == ["7", "a.jsonl:2", "a.jsonl:3"]
    assert [d.id for d in read(path, id_field="none")] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]
    with pytest.raises(CorpusError, match=r"a.jsonl:1: no field 'key'"):
        read(path, id_field="key")


def test_dolma_layout(tmp_path):
    rows = [{"id": "x1", "text": "t", "source": "pes2o", "added": "2023", "metadata": {"a": 1}}]
    put(tmp_path / "documents" / "pes2o-0000.json.gz", gzip.compress(jsonl(rows)))
    (document,) = read(tmp_path)
    assert (document.id, document.source) == ("x1", "pes2o")


def test_text_field_is_found_or_named(tmp_path):
    assert read(put(tmp_path / "a.jsonl", jsonl([{"content": "x"}])))[0].text == "x"
    path = put(tmp_path / "b.jsonl", jsonl([{"maintext": "y", "url": "u"}]))
    assert read(path, text_field="maintext")[0].text == "y"
    with pytest.raises(CorpusError, match=r"b.jsonl:1: no text field \(found maintext, url\); name it with --text-f"):
        read(path)
    with pytest.raises(CorpusError, match=r"b.jsonl:1: no field 'txt' \(found maintext, url\)"):
        read(path, text_field="txt")
    pq.write_table(pa.table({"maintext": ["z"], "n": [1]}), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", text_field="maintext")[0].text == "z"
    with pytest.raises(CorpusError, match=r"c.parquet:1: no text field \(found maintext, n\)"):
        read(tmp_path / "c.parquet")


@pytest.mark.parametrize("value, kind", [(3, "a number"), ([1], "a list"), ({"a": 1}, "an object")])
def test_text_of_the_wrong_type(tmp_path, value, kind):
    path = put(tmp_path / "a.jsonl", jsonl([{"text": value}]))
    with pytest.raises(CorpusError, match=f"a.jsonl:1: field 'text' holds {kind}, expected text"):
        read(path)


def test_empty_texts_are_counted(tmp_path):
    path = put(tmp_path / "a.jsonl", jsonl([{"text": ""}, {"text": " \n"}, {"text": None}, {"text": "x"}]) + b"\n\n")
    report = ReadReport()
    assert len(list(Corpus(str(path), CorpusConfig()).documents(report))) == 1
    assert report.num_empty == 3


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path):
    path = put(tmp_path / "a.jsonl", b'{"text": "a \\ud800 b"}\n')
    assert read(path)[0].text == "a \ufffd b"


BROKEN = {
    "line": ("a.jsonl", b'{"text": "good"}\n{"text": "bad\n{"text": "fine"}\n', r"a.jsonl:2: not valid JSON"),
    "bytes": (
        "a.jsonl",
        b'{"text": "good"}\n{"text": "\xff"}\n{"text": "fine"}\n',
        r"a.jsonl:2: not UTF-8 \(byte 0xff",
    ),
    "value": ("a.jsonl", b'{"text": "good"}\n17\n{"text": "fine"}\n', r"a.jsonl:2: a JSON int; expected an object"),
    "csv": ("a.csv", b"text,id\ngood,1\nbad\nfine,3\n", r"a.csv:3: 1 field, but the header has 2"),
    "csv bytes": ("a.csv", b"text,id\ngood,1\n\xff,2\nfine,3\n", r"a.csv:3: not UTF-8 \(byte 0xff"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_row_is_named_or_skipped_and_counted(tmp_path, case):
    name, data, message = BROKEN[case]
    path = put(tmp_path / name, data)
    with pytest.raises(CorpusError, match=message + r".*--on-error skip"):
        read(path)
    report = ReadReport()
    documents = Corpus(str(path), CorpusConfig(on_error="skip")).documents(report)
    assert [d.text for d in documents] == ["good", "fine"]
    assert report.num_skipped == 1 and name in report.problems[0]


def test_a_text_file_that_is_not_utf8(tmp_path):
    put(tmp_path / "a.txt", "größe\nübung".encode("latin-1"))
    put(tmp_path / "b.txt", b"fine")
    with pytest.raises(CorpusError, match=r"a.txt: not UTF-8 \(byte 0xf6 in line 1\)"):
        read(tmp_path)
    assert [d.text for d in read(tmp_path, on_error="skip")] == ["fine"]


@pytest.mark.parametrize("kind", ["gz", "zst", "parquet"])
def test_a_file_cut_in_half(tmp_path, kind):
    rows = [{"id": i, "text": os.urandom(40).hex()} for i in range(3000)]
    path = tmp_path / {"gz": "a.jsonl.gz", "zst": "a.jsonl.zst", "parquet": "a.parquet"}[kind]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        data = path.read_bytes()
    else:
        data = gzip.compress(jsonl(rows)) if kind == "gz" else zstandard.ZstdCompressor().compress(jsonl(rows))
    path.write_bytes(data[: len(data) // 2])
    put(tmp_path / "b.jsonl", jsonl([{"text": "fine"}]))
    with pytest.raises(CorpusError, match=f"{path.name}: (damaged or cut off|not a whole Parquet file)"):
        read(tmp_path)
    report = ReadReport()
    documents = list(Corpus(str(tmp_path), CorpusConfig(on_error="skip")).documents(report))
    assert documents[-1].text == "fine" and report.num_skipped == 1


def test_nothing_there(tmp_path):
    with pytest.raises(CorpusError, match="no such file or folder"):
        read(tmp_path / "none")
    with pytest.raises(CorpusError, match=r"no readable file \(it is empty\); expected txt, md, jsonl"):
        read(tmp_path)
    put(tmp_path / "a.pdf", b"x")
    put(tmp_path / "_hidden.txt", b"x")
    with pytest.raises(CorpusError, match=r"no readable file \(found 1 × .pdf, 1 × named _…, or in a folder"):
        read(tmp_path)
    (tmp_path / "link.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(CorpusError, match=r"link.txt: No such file or directory \(--on-error skip passes"):
        read(tmp_path)


def test_a_link_to_nothing_can_be_skipped(tmp_path):
    put(tmp_path / "a.txt", b"a text")
    (tmp_path / "link.txt").symlink_to(tmp_path / "gone")
    (tmp_path / "no data").symlink_to(tmp_path / "gone")
    report = ReadReport()
    documents = Corpus(str(tmp_path), CorpusConfig(on_error="skip")).documents(report)
    assert [document.text for document in documents] == ["a text"]
    assert report.num_skipped == 1


@pytest.mark.parametrize(
    ("corpus", "why"), [("-", "standard input is read once"), ("c/*.jsonl", "patterns are the shell's")]
)
def test_what_is_no_path_is_explained(corpus, why):
    with pytest.raises(CorpusError, match=why):
        list_corpus(corpus)


def _read_as_nobody(path: str, answer) -> None:
    if os.getuid() == 0:
        os.setuid(65534)  # nothing is locked for root
    try:
        answer.send(len(read(path)))
    except CorpusError as problem:
        answer.send(str(problem))


def test_an_unreadable_folder_is_an_error_not_an_empty_one():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        put(folder / "open" / "a.txt", b"text")
        locked = put(folder / "locked" / "b.txt", b"text").parent
        assert len(read(folder)) == 2
        locked.chmod(0)
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=_read_as_nobody, args=(name, theirs))
        child.start()
        child.join(60)
        locked.chmod(0o755)
        answer = ours.recv() if ours.poll() else None
    assert answer == f"{name}: cannot be read ({locked}: Permission denied)"


def test_bad_settings_name_the_flag():
    for config, flag in (
        ({"holdout": 0.9}, "--holdout"),
        ({"max_tokens": 3}, "--max-tokens"),
        ({"on_error": "x"}, "--on"),
    ):
        with pytest.raises(UsageError, match=flag):
            CorpusConfig(**config)


def test_fingerprint_follows_the_files(tmp_path):
    path = put(tmp_path / "a.txt", b"text")
    before = Corpus(str(tmp_path), CorpusConfig()).listing.fingerprint
    assert before == Corpus(str(tmp_path), CorpusConfig()).listing.fingerprint
    os.utime(path, ns=(1, 1))
    changed = Corpus(str(tmp_path), CorpusConfig()).listing.fingerprint
    put(tmp_path / "b.txt", b"more")
    assert len({before, changed, Corpus(str(tmp_path), CorpusConfig()).listing.fingerprint}) == 3


def test_a_corpus_behind_a_url():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/corpus/web/a.jsonl.gz", gzip.compress(jsonl(ROWS)))
    filesystem.pipe("/corpus/books/b.txt", b"A book.")
    pq.write_table(pa.Table.from_pylist([{"text": "p"}]), "/corpus/web/c.parquet", filesystem=filesystem)
    try:
        documents = read("memory://corpus")
        assert [d.source for d in documents] == ["books", *["web"] * 6]
        assert documents[1].text == ROWS[0]["text"] and documents[-1].id == "web/c.parquet:1"
        assert [d.source for d in read("memory://corpus/web/a.jsonl.gz")] == ["a"] * 5
        with pytest.raises(CorpusError, match="memory://nothing: no such file or folder"):
            read("memory://nothing")
    finally:
        filesystem.rm("/corpus", recursive=True)


def test_an_unknown_protocol():
    with pytest.raises(CorpusError, match="nosuch"):
        read("nosuch://bucket/x")


def test_links_in_a_circle_end(tmp_path):
    put(tmp_path / "a" / "x.txt", b"text")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(read(tmp_path)) == 1
