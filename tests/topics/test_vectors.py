import hashlib
import subprocess
import sys

import numpy as np
import pytest

from tests.realtext import news_articles
from tests.shell import environment
from tests.topics.planted import DIM, planted_texts, planted_vectors
from toremi_cli.errors import CorpusError, TableError, UsageError
from toremi_cli.topics.vectors import doc2vec, load_backend, make_backend

FIT_AND_HASH = """
import hashlib
from tests.realtext import news_articles
from toremi_cli.topics.vectors import make_backend
backend = make_backend("doc2vec", dim=24, seed=3)
backend.fit(news_articles()[:40])
print(hashlib.sha256(backend.encode(news_articles()[:45]).tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def backend():
    backend = make_backend("doc2vec", dim=24, seed=3)
    backend.fit(news_articles()[:40])
    return backend


def test_same_vectors_whatever_the_hash_seed(backend):
    here = hashlib.sha256(backend.encode(news_articles()[:45]).tobytes()).hexdigest()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", FIT_AND_HASH], capture_output=True, text=True, env=environment(PYTHONHASHSEED=seed)
        )
        assert done.stdout.strip() == here, done.stderr


def test_a_vector_depends_on_no_other_text(backend):
    texts = news_articles()[30:60]
    together = backend.encode(texts)
    alone = np.concatenate([backend.encode([text]) for text in reversed(texts)])[::-1]
    assert np.array_equal(together, alone)
    assert together.dtype == np.float32 and together.shape == (30, 24)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_saved_and_loaded_it_gives_the_same_vectors_without_pickle(backend, tmp_path):
    backend.save(tmp_path)
    assert np.array_equal(load_backend(tmp_path).encode(news_articles()[:9]), backend.encode(news_articles()[:9]))
    for array in tmp_path.glob("*.npy"):
        np.load(array, allow_pickle=False)


def test_words_stand_among_the_documents_that_speak_of_them():
    texts, kinds = planted_texts()
    backend = make_backend("doc2vec", dim=DIM, seed=0)
    backend.fit(texts)
    words = backend.encode_words()
    for word, kind in (("police", "news"), ("iterator", "python"), ("liable", "licence")):
        nearest = np.argsort(-planted_vectors() @ words[backend.vocabulary.index[word]])[:5]
        assert [kinds[i] for i in nearest].count(kind) >= 4, word


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_corpora_have_vectors(count):
    backend = make_backend("doc2vec", dim=20, seed=0)
    backend.fit(news_articles()[:count])
    vectors = backend.encode([*news_articles()[:count], "", "of the 12"])
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors[:count], axis=1), 1, atol=1e-6)
    assert not vectors[count:].any(), "no known word: the zero vector"


def test_a_corpus_without_words_is_an_error():
    with pytest.raises(CorpusError, match="no words to learn vectors from in 2 samples"):
        make_backend("doc2vec", dim=20, seed=0).fit(["12 34", "..."])


def test_wrong_names_and_folders(tmp_path):
    with pytest.raises(UsageError, match="expected one of doc2vec, sentence-transformers"):
        make_backend("word2vec")
    with pytest.raises(UsageError, match="take no model"):
        make_backend("doc2vec", model="BAAI/bge-m3")
    with pytest.raises(UsageError, match="need a model"):
        make_backend("sentence-transformers")
    with pytest.raises(TableError, match="run `toremi embed`"):
        load_backend(tmp_path)
    (tmp_path / "backend.json").write_text("{}")
    with pytest.raises(TableError, match="not the description"):
        load_backend(tmp_path)


def test_sentence_transformers_from_a_folder(tmp_path):
    folder = tiny_sentence_transformer(tmp_path / "model")
    backend = make_backend("sentence-transformers", model=str(folder))
    texts = news_articles()[:5]
    vectors = backend.encode(texts)
    assert vectors.shape == (5, backend.dim) and vectors.dtype == np.float32 and not backend.needs_fit
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[3], backend.encode([texts[3]])[0], atol=1e-5)
    backend.save(tmp_path / "kept")
    assert np.array_equal(load_backend(tmp_path / "kept").encode(texts), vectors)


def test_long_texts_are_read_whole_in_windows_weighted_by_their_length(tmp_path):
    folder = tiny_sentence_transformer(tmp_path / "model")  # 64 tokens: 62 letters and two of its own
    backend = make_backend("sentence-transformers", model=str(folder))
    short, first, second, third = "ab cd", "abcde " * 12, "fghij " * 12, "klmno " * 3
    vectors = backend.encode([short, first + second + third, first, short])
    parts = backend.encode([first, second, third]).astype(np.float64)
    mean = np.array([60, 60, 15]) @ parts
    assert np.allclose(vectors[1], mean / np.linalg.norm(mean), atol=1e-5)
    assert np.allclose(vectors[[0, 2, 3]], backend.encode([short, first, short]), atol=1e-5)
    assert not np.allclose(vectors[1], vectors[2], atol=1e-3), "what follows the first window counts"
    mean = np.array([62, 28]) @ backend.encode(["x" * 62, "x" * 28]).astype(np.float64)
    assert np.allclose(backend.encode(["x" * 90])[0], mean / np.linalg.norm(mean), atol=1e-5), "one long word"


def test_a_sentence_transformer_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"--vector-model .*nothing: no such folder"):
        make_backend("sentence-transformers", model=str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"--vector-model .*empty: cannot be loaded"):
        make_backend("sentence-transformers", model=str(tmp_path / "empty"))


def tiny_sentence_transformer(folder):
    """A BERT of random weights with a vocabulary of letters, as a sentence-transformers model on disk."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    base = folder / "base"
    base.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    (base / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}).save_pretrained(base)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(pieces), **shape)).save_pretrained(base)
    transformer = Transformer(str(base), max_seq_length=64)
    SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu").save(str(folder / "whole"))
    return folder / "whole"


def test_of_a_large_corpus_so_many_words_are_learnt_from_as_the_bound_says(monkeypatch):
    texts = news_articles()[:60]
    monkeypatch.setattr(doc2vec, "TRAINING_WORDS", 500)
    bounded = make_backend("doc2vec", dim=24, seed=3)
    bounded.fit(texts)
    known = np.abs(bounded.words).max(axis=1) > 0
    assert 0.1 < known.mean() < 0.9, "a word of no document drawn has no neural half"
    assert np.allclose(np.linalg.norm(bounded.encode(texts), axis=1), 1, atol=1e-6)
    monkeypatch.setattr(doc2vec, "TRAINING_WORDS", 1)
    bounded.fit(texts)
    assert np.isfinite(bounded.encode(texts)).all(), "one document is always there to learn from"
