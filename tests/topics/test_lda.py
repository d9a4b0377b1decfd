import numpy as np
import pytest
import scipy.sparse as sp

from tests.topics.planted import KINDS, planted_texts
from toremi_cli.topics.lda import fit_lda, learn_vocabulary
from toremi_cli.topics.vectors.bags import Vocabulary, word_lists


def planted_counts():
    documents = word_lists(planted_texts()[0])
    vocabulary = learn_vocabulary(documents)
    return vocabulary, vocabulary.count(documents)


def test_eta_tells_topic_k_what_it_is_about():
    vocabulary, counts = planted_counts()
    kinds = np.array(planted_texts()[1])
    eta = np.vstack([np.asarray(counts[np.flatnonzero(kinds == kind)].sum(axis=0)).ravel() for kind in KINDS]) + 0.01
    mixture = fit_lda(counts, vocabulary, 3, seed=0, eta=eta).infer(counts)
    assert (np.array(KINDS)[mixture.argmax(axis=1)] == kinds).mean() > 0.97


def test_the_same_seed_gives_the_same_model():
    vocabulary, counts = planted_counts()
    one, two, other = (fit_lda(counts, vocabulary, 4, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.topic_words, two.topic_words)
    assert not np.array_equal(one.topic_words, other.topic_words)


def test_a_mixture_depends_on_no_other_text():
    vocabulary, counts = planted_counts()
    lda = fit_lda(counts, vocabulary, 4, seed=0)
    together = lda.infer(counts)
    alone = np.vstack([lda.infer(counts[row]) for row in range(20)])
    assert np.array_equal(together[:20], alone)
    assert np.allclose(together.sum(axis=1), 1)


def test_it_agrees_with_gensims_own_inference():
    from gensim.models.ldamodel import LdaModel

    vocabulary, counts = planted_counts()
    corpus = [list(zip(row.indices.tolist(), row.data.tolist(), strict=True)) for row in (counts[i] for i in range(30))]
    lda = fit_lda(counts, vocabulary, 4, seed=0)
    theirs = LdaModel(
        num_topics=4, id2word=dict(enumerate(vocabulary.words)), random_state=0, iterations=200, dtype=np.float64
    )
    theirs.state.sstats = lda.topic_words - theirs.eta
    theirs.sync_state()
    gamma, _ = theirs.inference(corpus)
    gamma /= gamma.sum(axis=1, keepdims=True)
    assert np.abs(gamma - lda.infer(counts[:30])).mean() < 0.02


def test_a_text_without_known_words_gets_the_prior():
    vocabulary, counts = planted_counts()
    lda = fit_lda(counts, vocabulary, 4, seed=0)
    assert np.allclose(lda.infer(vocabulary.count([[], ["qqqq"]])), 0.25)


def test_texts_without_a_word_have_the_prior():
    lda = fit_lda(sp.csr_matrix((5, 0)), Vocabulary([]), 4, seed=0)
    assert lda.infer(sp.csr_matrix((2, 0))) == pytest.approx(np.full((2, 4), 0.25))
