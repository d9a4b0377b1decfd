import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_mutual_info_score

from tests.realtext import news_articles
from tests.topics.planted import planted_texts, planted_vectors
from toremi_cli.topics import top2vec_model
from toremi_cli.topics.config import ClusterConfig
from toremi_cli.topics.fit import fit_model
from toremi_cli.topics.fusion import (
    Views,
    alternate,
    dampen,
    fit_fused,
    likeliest,
    merge_areas,
    softmax,
    split_widest,
)
from toremi_cli.topics.kmeans import fit_kmeans, nearest, similarities
from toremi_cli.topics.lda import learn_vocabulary
from toremi_cli.topics.model import load_model
from toremi_cli.topics.top2vec_model import DenseAreas, find_dense_areas
from toremi_cli.topics.vectors import make_backend
from toremi_cli.topics.vectors.bags import Vocabulary, word_lists


def fit(**settings):
    texts, kinds = planted_texts()
    fitted = fit_model(texts, planted_vectors(), ClusterConfig(**settings))
    model, keywords = fitted.model, fitted.keywords
    probs, agreement = model.assign(texts, planted_vectors())
    return model, keywords, probs, agreement, adjusted_mutual_info_score(kinds, probs.argmax(axis=1))


def test_planted_topics_are_found():
    _, keywords, probs, agreement, score = fit(num_topics=3)
    assert score > 0.9
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5) and probs.dtype == np.float32
    assert agreement.min() >= 0 and agreement.max() <= 1.0001
    heads = {word for words in keywords for word in words[:15]}
    assert {"license", "python", "police"} & heads >= {"license"}, heads


def test_right_samples_have_the_higher_agreement():
    _, kinds = planted_texts()
    _, _, probs, agreement, _ = fit(num_topics=3)
    kind_of = {}
    for topic in range(3):
        members = [k for k, t in zip(kinds, probs.argmax(axis=1), strict=True) if t == topic]
        kind_of[topic] = max(set(members), key=members.count)
    right = np.array([kind_of[t] == k for t, k in zip(probs.argmax(axis=1), kinds, strict=True)])
    sure = agreement >= np.median(agreement)
    assert right[sure].mean() >= right.mean()


@pytest.mark.parametrize("method", ["fused", "kmeans", "lda", "top2vec"])
def test_the_same_seed_gives_the_same_bits_and_a_saved_model_too(method, tmp_path):
    texts, _ = planted_texts()
    model, keywords, probs, agreement, _ = fit(method=method, num_topics=4)
    again, keywords_again, probs_again, agreement_again, _ = fit(method=method, num_topics=4)
    assert keywords == keywords_again
    assert np.array_equal(probs, probs_again) and np.array_equal(agreement, agreement_again)
    model.save(tmp_path, "x")
    loaded = load_model(tmp_path)
    assert (loaded.num_topics, loaded.reason) == (again.num_topics, again.reason)
    kept_probs, kept_agreement = loaded.assign(texts, planted_vectors())
    assert np.array_equal(kept_probs, probs) and np.array_equal(kept_agreement, agreement)


@pytest.mark.parametrize("method", ["fused", "kmeans", "lda", "top2vec"])
def test_a_sample_is_assigned_by_itself(method):
    texts, _ = planted_texts()
    vectors = planted_vectors()
    model, _, probs, agreement, _ = fit(method=method, num_topics=4)
    for start, stop in ((0, 1), (7, 8), (3, 50), (150, 200)):
        part, part_agreement = model.assign(texts[start:stop], vectors[start:stop])
        assert np.array_equal(part, probs[start:stop])
        assert np.array_equal(part_agreement, agreement[start:stop])


def views_of_two_topics(shares=(0.5, 0.5)):
    """Word 0 and direction 0 speak for topic 0, word 1 and direction 1 for topic 1."""
    return Views(np.eye(2), np.array([[3.0, -3.0], [-3.0, 3.0]]), np.log(shares), 3.0)


def test_agreement_is_that_of_both_views():
    words = sp.csr_matrix(np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]]))
    vectors = np.eye(2)[[0, 0, 1, 1]]
    views = views_of_two_topics()
    agreement = views.agreement(*views.scores(words, vectors))
    assert agreement[[0, 3]].min() > 0.9 and agreement[[1, 2]].max() < 0.1
    by_words = 1 / (1 + np.exp(-6.0))  # of the topic that word 0 speaks for
    by_vectors = 1 / (1 + np.exp(-3.0))
    assert agreement[0] == pytest.approx(by_words * by_vectors + (1 - by_words) * (1 - by_vectors))


def test_confidence_is_calibrated_in_the_form_that_agreement_uses():
    """Of the words with the topics' shares, of the vectors without: no other factor predicts the joint better."""
    generator = np.random.default_rng(0)
    views = views_of_two_topics((0.9, 0.1))
    by_words, by_vectors = generator.normal(size=(2, 400, 2))
    words, vectors = views.calibrated(by_words, by_vectors).confidence
    joint = softmax(views.joint(by_words, by_vectors))

    def cross_entropy(scores):
        return -float((joint * np.log(softmax(scores))).sum(axis=1).mean())

    for factor in (0.9, 1.1):
        best = cross_entropy(words * by_words + views.log_share)
        assert cross_entropy(factor * words * by_words + views.log_share) > best
        assert cross_entropy(factor * vectors * by_vectors) > cross_entropy(vectors * by_vectors)


def test_the_number_of_topics_is_found_and_explained():
    areas = find_dense_areas(planted_vectors(), 15, 0)
    model, *_, score = fit()
    assert 2 <= model.num_topics <= 6 and score > 0.6
    assert f"Top2Vec found {len(areas.centres)} dense areas" in model.reason
    assert "best reproduced by halves of the samples" in model.reason


def test_beyond_what_all_pairs_can_be_compared_of_the_same_areas_are_found(monkeypatch):
    exact = find_dense_areas(planted_vectors(), 15, 0)
    monkeypatch.setattr(top2vec_model, "MOST_ALL_PAIRS", 10)
    approximate = find_dense_areas(planted_vectors(), 15, 0)
    nearest_of_each = similarities(exact.centres, approximate.centres).max(axis=1)
    assert len(exact.centres) == len(approximate.centres) and nearest_of_each.min() > 0.95


def test_top2vec_alone_takes_its_own_number():
    areas = find_dense_areas(planted_vectors(), 15, 0)
    model, *_ = fit(method="top2vec")
    assert model.num_topics == len(areas.centres) >= 2
    assert f"Top2Vec found {len(areas.centres)} dense areas" in model.reason


def test_without_a_dense_area_it_says_so_and_falls_back(capsys):
    model, *_ = fit(min_topic_samples=90)
    assert "too few to look for dense areas" in model.reason or "no dense area" in model.reason
    assert model.num_topics == 10
    assert "falling back to k-means" in capsys.readouterr().err


def test_noise_has_no_dense_area():
    directions = np.random.default_rng(0).normal(size=(120, 100))
    areas = find_dense_areas(directions / np.linalg.norm(directions, axis=1, keepdims=True), 40, 0)
    assert len(areas.centres) == 0 and areas.reason == "Top2Vec found no dense area"


@pytest.mark.parametrize("count", [1, 2, 5, 20])
@pytest.mark.parametrize("method", ["fused", "kmeans", "lda", "top2vec"])
def test_tiny_corpora(count, method):
    texts = news_articles()[:count]
    backend = make_backend("doc2vec", dim=20, seed=0)
    backend.fit(texts)
    vectors = backend.encode(texts)
    for num_topics in (None, 3):
        fitted = fit_model(texts, vectors, ClusterConfig(method=method, num_topics=num_topics, levels=2))
        model, keywords = fitted.model, fitted.keywords
        probs, agreement = model.assign([*texts, ""], np.vstack([vectors, np.zeros((1, 20), np.float32)]))
        assert probs.shape == (count + 1, model.num_topics) and len(keywords) == model.num_topics
        assert np.isfinite(probs).all() and np.allclose(probs.sum(axis=1), 1, atol=1e-5)
        assert np.isfinite(agreement).all()


@pytest.mark.parametrize("method", ["fused", "lda"])
def test_no_topic_is_left_without_a_sample(method):
    model, keywords, probs, *_ = fit(method=method, num_topics=40)
    assert set(probs.argmax(axis=1)) == set(range(model.num_topics))
    assert len(keywords) == model.num_topics and all(keywords)
    if model.num_topics < 40:
        assert f"without {40 - model.num_topics} of 40 that " in model.reason


def test_each_view_alone_is_as_sure_as_it_is_right():
    """Agreement is a probability: as high as the share of samples to which both views give one topic."""
    model, _, _, agreement, _ = fit(num_topics=3)
    views = model.views
    by_words, by_vectors = views.scores(
        dampen(model.vocabulary.count(word_lists(planted_texts()[0]))), planted_vectors()
    )
    same = (by_words + views.log_share).argmax(axis=1) == by_vectors.argmax(axis=1)
    assert abs(agreement.mean() - same.mean()) < 0.15


def test_equal_texts_make_one_topic():
    texts = [news_articles()[0]] * 40
    backend = make_backend("doc2vec", dim=20, seed=0)
    backend.fit(texts)
    model = fit_model(texts, backend.encode(texts), ClusterConfig(num_topics=5)).model
    assert model.num_topics == 1 and "only 1 samples differ" in model.reason


def test_a_frequent_kind_is_one_topic_and_rare_ones_get_the_others():
    """k-means cuts the frequent kind into many; the topics it doesn't need go to the rare kinds."""
    generator = np.random.default_rng(0)
    kind = np.repeat(np.arange(8), [400, *[20] * 7])
    directions = np.eye(8, 40)[kind] + generator.normal(scale=0.12, size=(len(kind), 40))
    vectors = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    chances = np.full((8, 160), 0.2) + np.kron(np.eye(8), np.full(20, 2.0))
    counts = sp.csr_matrix(generator.poisson(chances[kind]).astype(float))
    vocabulary = Vocabulary([f"word{i}" for i in range(160)])
    fused = fit_fused(counts, vectors, vocabulary, DenseAreas(vectors[:0]), 8, seed=0)
    topic = fused.posterior.argmax(axis=1)
    cut = nearest(vectors, fit_kmeans(vectors, 8, 0))
    assert adjusted_mutual_info_score(kind, cut) < 0.8 and fused.start == "k-means with spare topics"
    assert adjusted_mutual_info_score(kind, topic) > 0.99


def test_a_cut_of_small_margins_is_not_the_likelier_for_it():
    texts, kinds = planted_texts()
    bags = dampen(learn_vocabulary(word_lists(texts)).count(word_lists(texts)))
    right = np.unique(kinds, return_inverse=True)[1]
    wrong = np.random.default_rng(0).permutation(right)
    models = {name: alternate(bags, planted_vectors(), cut, 3, rounds=1)[0] for name, cut in
              (("wrong", wrong), ("right", right))}  # fmt: skip
    assert models["wrong"].sharpness > models["right"].sharpness
    assert likeliest(bags, planted_vectors(), models) == "right"


def test_too_few_topics_are_split_where_they_are_widest():
    generator = np.random.default_rng(0)
    tight = np.array([1, 0, 0]) + generator.normal(scale=0.01, size=(90, 3))
    wide = np.vstack([np.tile([0, 1, 0.3], (20, 1)), np.tile([0, 0.3, 1], (20, 1))])
    topic = split_widest(np.vstack([tight, wide]), np.repeat([0, 1], [90, 40]), 3, seed=0)
    assert set(topic[:90]) == {0} and {topic[90], topic[129]} == {1, 2}
    same = split_widest(np.tile([1.0, 0, 0], (30, 1)), np.zeros(30, np.int64), 3, seed=0)
    assert set(same) == {0}, "equal vectors can't be split"


def test_merging_joins_the_areas_that_lie_closest():
    centres = np.array([[1, 0, 0], [0.96, 0.28, 0], [0, 0, 1]], dtype=float)
    merged = merge_areas(np.repeat(centres, 5, axis=0), centres, 2)
    assert np.allclose(np.sort(merged @ np.array([0, 0, 1.0])), [0, 1])


def test_cosines_do_not_depend_on_the_batch():
    generator = np.random.default_rng(0)
    vectors, centres = generator.normal(size=(700, 37)).astype(np.float32), generator.normal(size=(11, 37))
    whole = similarities(vectors, centres)
    for start, stop in ((0, 1), (255, 258), (13, 699)):
        assert np.array_equal(similarities(vectors[start:stop], centres), whole[start:stop])
