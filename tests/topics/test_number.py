from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_mutual_info_score

from tests.topics.planted import planted_texts, planted_vectors
from toremi_cli.topics import number as number_of_topics
from toremi_cli.topics.config import ClusterConfig
from toremi_cli.topics.fit import fit_model
from toremi_cli.topics.fusion import dampen, roll_up_unreproduced, with_spare_topics
from toremi_cli.topics.lda import learn_vocabulary
from toremi_cli.topics.model import load_model
from toremi_cli.topics.number import Halving, last_of_the_best, reproduce, reproducible_number
from toremi_cli.topics.reproduction import Half, merge_unreproduced, reproduced_part
from toremi_cli.topics.vectors.bags import word_lists


def rows_of_scores(means, deviation=0.05, num_splits=5):
    """Scores (num_rows, num_splits) of exactly these means, each row with noise of its own."""
    noise = np.random.default_rng(0).normal(size=(len(means), num_splits))
    noise -= noise.mean(axis=1, keepdims=True)
    noise /= noise.std(axis=1, ddof=1, keepdims=True)
    return np.array(means)[:, None] + deviation * noise


def test_of_numbers_that_cannot_be_told_apart_the_largest_is_taken():
    assert last_of_the_best(rows_of_scores([0.5, 1.0, 0.99, 0.6, 0.985, 0.7])) == 4


def test_a_number_that_is_plainly_worse_is_not_taken_for_being_larger():
    assert last_of_the_best(rows_of_scores([0.5, 1.0, 0.7, 0.6, 0.7, 0.8])) == 1
    assert last_of_the_best(rows_of_scores([0.5])) == 0


@pytest.mark.parametrize(("errors", "row"), [(0.99, 1), (1.01, 0)])
def test_how_far_behind_is_a_standard_error_of_the_mean(errors, row):
    noise = np.array([1.0, -2.0, 0.5, 2.0, -1.5])
    noise *= 5**0.5 / noise.std(ddof=1)  # so that the mean of five has a standard error of 1
    assert last_of_the_best(np.vstack([np.full(5, 10.0), 10.0 - errors + noise])) == row


def test_what_makes_a_halving_hard_for_all_numbers_does_not_count():
    scores = rows_of_scores([0.5, 1.0, 0.8, 0.8, 0.7])
    harder = np.array([-0.8, 0.6, 0.1, -0.5, 0.6])
    assert last_of_the_best(scores + harder) == last_of_the_best(scores) == 1


def kinds_within_kinds(num_coarse, num_fine, num_samples=16):
    """(bags, vectors) of kinds that lie in groups, each with words of its own."""
    generator = np.random.default_rng(0)
    num_kinds = num_coarse * num_fine
    kind = np.repeat(np.arange(num_kinds), num_samples)
    groups = np.eye(num_coarse, num_kinds + num_coarse + 10, k=num_kinds)
    directions = 0.4 * np.eye(num_kinds, groups.shape[1])[kind] + groups[kind // num_fine]
    directions += generator.normal(scale=0.06, size=directions.shape)
    chances = np.full((num_kinds, 10 * num_kinds), 0.2) + np.kron(np.eye(num_kinds), np.full(10, 2.0))
    bags = dampen(sp.csr_matrix(generator.poisson(chances[kind]).astype(float)))
    return bags, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def test_a_finer_peak_is_found_beyond_a_valley(monkeypatch):
    """Two groups come out of every half; cuts in between don't; the kinds within them do again."""
    monkeypatch.setattr(number_of_topics, "SPLITS", 3)
    chosen = reproducible_number(*kinds_within_kinds(2, 6), [2, 3, 4, 5, 6, 12], seed=0)
    assert chosen.number == 12 and chosen.agreement > 0.9


def test_few_plain_kinds_are_not_cut_further(monkeypatch):
    monkeypatch.setattr(number_of_topics, "SPLITS", 3)
    texts, _ = planted_texts()
    bags = dampen(learn_vocabulary(word_lists(texts)).count(word_lists(texts)))
    chosen = reproducible_number(bags, planted_vectors(), [2, 3, 4, 6, 9, 13], seed=0)
    assert 2 <= chosen.number <= 6 and 0.6 < chosen.agreement <= 1


def unequal_kinds(sizes=(240, 160, *[16] * 8)):
    """(kind, counts, vectors) of kinds of these sizes, each with words and a direction of its own."""
    generator = np.random.default_rng(0)
    kind = np.repeat(np.arange(len(sizes)), sizes)
    directions = np.eye(len(sizes), 40)[kind] + generator.normal(scale=0.12, size=(len(kind), 40))
    chances = np.full((len(sizes), 20 * len(sizes)), 0.2) + np.kron(np.eye(len(sizes)), np.full(20, 2.0))
    counts = sp.csr_matrix(generator.poisson(chances[kind]).astype(float))
    return kind, counts, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def test_where_topics_die_out_only_such_numbers_are_compared(monkeypatch):
    """Three topics, the frequent kinds and the rest, always come out again; the rare kinds are kinds all the same."""
    monkeypatch.setattr(number_of_topics, "SPLITS", 3)
    kind, counts, vectors = unequal_kinds()
    bags = dampen(counts)
    chosen = reproducible_number(bags, vectors, [2, 3, 4, 10, 14], seed=0)
    assert chosen.compared[0] >= 10 and len(chosen.halves) == 6
    posterior = with_spare_topics(bags, vectors, chosen.number, seed=0)
    posterior, topic_of_part = roll_up_unreproduced(posterior, vectors, chosen.halves)
    found = topic_of_part[posterior.argmax(axis=1)]
    assert adjusted_mutual_info_score(kind, found) > 0.97


def unequal_texts():
    """(kind, texts, vectors) of the same, in words."""
    kind, counts, vectors = unequal_kinds()
    names = ["".join("abcdefghij"[int(digit)] for digit in f"{word:03}") for word in range(counts.shape[1])]
    texts = [" ".join(np.repeat(names, row).tolist()) for row in counts.toarray().astype(int)]
    return kind, texts, vectors.astype(np.float32)


def test_a_topic_that_was_rolled_up_is_the_sum_of_its_parts(monkeypatch, tmp_path):
    monkeypatch.setattr(number_of_topics, "SPLITS", 2)
    _, texts, vectors = unequal_texts()
    model = fit_model(texts, vectors, ClusterConfig()).model
    assert model.views is not None and model.views.topic_of_part is not None
    topic_of_part = model.views.topic_of_part
    assert len(model.views.centres) == len(topic_of_part) > model.num_topics == topic_of_part.max() + 1
    probs, agreement = model.assign(texts, vectors)
    assert probs.shape == (len(texts), model.num_topics) and np.allclose(probs.sum(axis=1), 1, atol=1e-5)
    by_part = replace(model, num_topics=len(topic_of_part), views=replace(model.views, topic_of_part=None))
    probs_of_parts, agreement_of_parts = by_part.assign(texts, vectors)
    for topic in range(model.num_topics):
        assert np.allclose(probs[:, topic], probs_of_parts[:, topic_of_part == topic].sum(axis=1), atol=1e-6)
    assert (agreement >= agreement_of_parts - 1e-6).all(), "views that name two parts of a topic name one topic"
    sizes = np.bincount(probs.argmax(axis=1), minlength=model.num_topics)
    assert sizes[0] == sizes.max()

    alone, alone_agreement = model.assign(texts[5:6], vectors[5:6])
    assert np.array_equal(alone, probs[5:6]) and np.array_equal(alone_agreement, agreement[5:6])
    model.save(tmp_path, "x")
    kept, kept_agreement = load_model(tmp_path).assign(texts, vectors)
    assert np.array_equal(kept, probs) and np.array_equal(kept_agreement, agreement)
    without_the_first = model.keep(np.arange(1, model.num_topics))
    others, _ = without_the_first.assign(texts, vectors)
    elsewhere = probs.argmax(axis=1) > 0
    assert np.array_equal(others[elsewhere].argmax(axis=1) + 1, probs[elsewhere].argmax(axis=1))


def test_the_reason_tells_of_topics_that_died_out_and_were_rolled_up(monkeypatch):
    monkeypatch.setattr(number_of_topics, "SPLITS", 2)
    kind, texts, vectors = unequal_texts()
    fitted = fit_model(texts, vectors, ClusterConfig())
    topic = fitted.model.assign(texts, vectors)[0].argmax(axis=1)
    assert adjusted_mutual_info_score(kind, topic) > 0.97
    assert ", where topics die out, among those" in fitted.model.reason
    assert f"rolled up into {fitted.model.num_topics}, as many as halves tell apart" in fitted.model.reason
    asked_for = fit_model(texts, vectors, ClusterConfig(num_topics=12)).model
    assert asked_for.num_topics == 12 and "rolled up" not in asked_for.reason


def test_numbers_that_make_up_more_than_they_are_worth_do_not_count_for_having_dead_topics(monkeypatch):
    """Far too many topics die out of two plain kinds; those that live are cut at arbitrary places."""
    monkeypatch.setattr(number_of_topics, "SPLITS", 3)
    _, counts, vectors = unequal_kinds((200, 60))
    bags = dampen(counts)
    chosen = reproducible_number(bags, vectors, [2, 20], seed=0)
    assert chosen.number == 2 and chosen.compared == [2, 20] and not chosen.halves
    rows = np.random.default_rng(0).permutation(len(vectors))
    halving = Halving(rows, bags[rows], vectors[rows], number=20, seed=0)
    assert all(half.died for half in reproduce(halving).halves), "topics do die out there"


def test_a_split_is_reproduced_by_whatever_tells_its_sides_apart():
    assert reproduced_part(np.array([30, 0]), np.array([0, 10])) == pytest.approx(1)
    assert reproduced_part(np.array([30, 30, 0, 0]), np.array([0, 0, 9, 9])) == pytest.approx(1)  # cut further
    assert reproduced_part(np.array([30, 60]), np.array([10, 20])) == pytest.approx(0, abs=0.02)
    assert reproduced_part(np.array([40, 0]), np.array([20, 0])) == 0  # both sides in one topic
    assert 0.2 < reproduced_part(np.array([80, 20]), np.array([20, 80])) < 0.4
    assert reproduced_part(np.array([7, 3]), np.array([0, 0])) == 1  # no sample, no evidence against it


def test_a_few_samples_thrown_into_many_topics_reproduce_nothing():
    """Each in a topic of its own tells all about them, as would any other labels."""
    apart = np.eye(8, dtype=np.int64)
    assert reproduced_part(apart[:4].sum(axis=0), apart[4:].sum(axis=0)) == 0


def test_only_topics_that_halves_tell_apart_are_left():
    """One of three kinds is cut in three, at places that no half agrees about."""
    generator = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], [120, 40, 40])
    vectors = np.eye(3, 8)[kind] + generator.normal(scale=0.1, size=(200, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def cut():
        return np.where(kind == 0, generator.integers(3, size=200), kind + 2)

    topic, rows = cut(), generator.permutation(200)[:150]
    halves = [Half(rows, cut()[rows], True) for _ in range(4)]
    assert merge_unreproduced(topic, vectors, 5, halves).tolist() == [0, 0, 0, 1, 2]
    alike = [Half(rows, topic[rows], True)] * 2
    assert merge_unreproduced(topic, vectors, 5, alike).tolist() == [0, 1, 2, 3, 4]
    assert merge_unreproduced(np.zeros(200, np.int64), vectors, 1, alike).tolist() == [0]


def test_the_number_does_not_depend_on_the_number_of_processes(monkeypatch):
    monkeypatch.setattr(number_of_topics, "SPLITS", 2)
    monkeypatch.setattr(number_of_topics, "LEAST_SAMPLES_TO_SHARE", 0)
    _, counts, vectors = unequal_kinds((60, *[8] * 5))
    bags = dampen(counts)
    alone, together = (reproducible_number(bags, vectors, [2, 3, 6], seed=0, workers=workers) for workers in (1, 2))
    assert (together.number, together.agreement, together.compared) == (alone.number, alone.agreement, alone.compared)
    for one, other in zip(alone.halves, together.halves, strict=True):
        assert np.array_equal(one.rows, other.rows) and np.array_equal(one.topic, other.topic)
