"""A corpus in an object store: a real HTTP server on a port of its own."""

import gzip
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shell import assert_one_line_error, toremi
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.readers import Corpus
from toremi_cli.errors import CorpusError


@pytest.fixture(scope="module")
def bucket(store):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        import s3fs

        filesystem = s3fs.S3FileSystem(skip_instance_cache=True)
        filesystem.mkdir("corpora")
        rows = [{"id": f"w{i}", "text": f"Page {i} of the web, with words."} for i in range(30)]
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        filesystem.pipe("corpora/mix/web/a.jsonl.gz", gzip.compress(data))
        filesystem.pipe("corpora/mix/books/b.txt", b"A whole book, on one line.")
        filesystem.pipe("corpora/cut/a.jsonl.gz", gzip.compress(data)[:60])
        pq.write_table(pa.table({"text": ["from parquet"]}), "corpora/mix/web/c.parquet", filesystem=filesystem)
        yield "s3://corpora/mix"


def test_documents_are_streamed_from_s3(bucket):
    corpus = Corpus(bucket, CorpusConfig())
    documents = list(corpus.documents())
    assert [d.source for d in documents] == ["books", *["web"] * 31]
    assert documents[-1].id == "web/c.parquet:1" and documents[1].place.startswith("s3://corpora/mix/web/a.jsonl.gz")
    assert corpus.listing.fingerprint == Corpus(bucket, CorpusConfig()).listing.fingerprint


def test_embed_reads_s3(bucket, store, tmp_path):
    process = toremi("embed", bucket, "--vector-dim", "4", "--json", cwd=tmp_path, **store.env)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["totals"]["documents"] == 32
    again = toremi("embed", bucket, cwd=tmp_path, **store.env)
    assert again.stderr.count("up to date") == 2
    assert_one_line_error(
        toremi("embed", "s3://corpora/none", cwd=tmp_path, **store.env), "s3://corpora/none", "no such"
    )
    assert_one_line_error(toremi("embed", "s3://corpora/cut", cwd=tmp_path, **store.env), "a.jsonl.gz", "cut off")


def test_a_store_whose_package_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(CorpusError, match=r"gs://corpora: .*gcsfs.*pip install 'toremi\[gs\]'"):
        Corpus("gs://corpora", CorpusConfig())
