import gzip

import pytest

from tests.corpus.test_readers import put, read
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.readers import Corpus, ReadReport
from toremi_cli.errors import CorpusError


def skipping(path):
    report = ReadReport()
    return [d.text for d in Corpus(str(path), CorpusConfig(on_error="skip")).documents(report)], report


def test_quotes_in_tsv_are_letters(tmp_path):
    lines = ["id\ttext", *(f'{i}\t"Row {i} begins with a quote' if i % 2 else f"{i}\tRow {i}" for i in range(45))]
    documents = read(put(tmp_path / "a.tsv", "\n".join(lines).encode()))
    assert len(documents) == 45 and documents[1].text == '"Row 1 begins with a quote' and documents[1].id == "1"
    with pytest.raises(CorpusError, match=r"b.tsv:2: 1 field, but the header has 2 \(TSV has no quotes"):
        read(put(tmp_path / "b.tsv", b'id\ttext\n"0\n1"\tover two lines\n'))


def test_an_unbalanced_quote_spoils_its_own_row(tmp_path):
    rows = [f'{i},"text, number {i}"' if i % 10 == 0 else f"{i},text number {i}" for i in range(60)]
    rows[3] = '3,"a quote that never closes'
    path = put(tmp_path / "a.csv", "\r\n".join(["id,text", *rows]).encode())
    with pytest.raises(CorpusError, match=r"a.csv:5: quotes don't balance: one opens here, and closes 7 lines below"):
        read(path)
    texts, report = skipping(path)
    assert len(texts) == 59 and texts[3] == "text number 4" and report.num_skipped == 1
    assert texts[9] == "text, number 10", "quotes go on to work below"


def test_a_quote_that_stays_open_to_the_end(tmp_path):
    path = put(tmp_path / "a.csv", b'text,id\ngood,1\n"open,2\nfine,3\n"two\nlines",4\n"last,5\n')
    with pytest.raises(CorpusError, match=r"a.csv:3: quotes don't balance"):
        read(path)
    texts, report = skipping(path)
    assert texts == ["good", "fine", "two\nlines"] and report.num_skipped == 2
    assert report.problems[1].endswith(
        "a.csv:7: a quote that opens here never closes; double quotes within a quoted text"
    )


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_header_says_what_separates(tmp_path, separator):
    data = f"id{separator}text\n1{separator}one, two, three\n"
    assert [d.text for d in read(put(tmp_path / "a.csv", data.encode()))] == ["one, two, three"]


def test_texts_with_commas_and_no_quotes_are_explained(tmp_path):
    with pytest.raises(CorpusError, match=r"a.csv:2: 3 fields, but the header has 1 \(are texts that hold ',' quoted"):
        read(put(tmp_path / "a.csv", b"text\none, two, three\n"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_wanted_field_named_twice_is_refused(tmp_path, name):
    sign = "," if name == "a.csv" else "\t"
    with pytest.raises(CorpusError, match=rf"{name}:1: names the field 'text' twice"):
        read(put(tmp_path / name, f"text{sign}text\na{sign}b\n".encode()))
    assert len(read(put(tmp_path / f"b{name}", f"text{sign}n{sign}n\na{sign}1{sign}2\n".encode()))) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_lines_that_end_in_cr_only(tmp_path, name):
    data = b"text,id\rone,1\rtwo,2\r".replace(b",", b"\t" if "tsv" in name else b",")
    documents = read(put(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data))
    assert [(d.text, d.id) for d in documents] == [("one", "1"), ("two", "2")]


def test_a_header_that_is_broken(tmp_path):
    with pytest.raises(CorpusError, match=r"a.csv:1: in the header: a quote that opens here never closes"):
        read(put(tmp_path / "a.csv", b'"text,id\none,1\n'))
