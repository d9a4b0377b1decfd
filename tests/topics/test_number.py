import numpy as np
import scipy.sparse as sp

from tests.topics.planted import planted_texts, planted_vectors
from toremi_cli.topics import number as number_of_topics
from toremi_cli.topics.fusion import dampen
from toremi_cli.topics.lda import learn_vocabulary
from toremi_cli.topics.number import last_of_the_best, reproducible_number
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
    number, agreement = reproducible_number(*kinds_within_kinds(2, 6), [2, 3, 4, 5, 6, 12], seed=0)
    assert number == 12 and agreement > 0.9


def test_few_plain_kinds_are_not_cut_further(monkeypatch):
    monkeypatch.setattr(number_of_topics, "SPLITS", 3)
    texts, _ = planted_texts()
    bags = dampen(learn_vocabulary(word_lists(texts)).count(word_lists(texts)))
    number, agreement = reproducible_number(bags, planted_vectors(), [2, 3, 4, 6, 9, 13], seed=0)
    assert 2 <= number <= 6 and 0.6 < agreement <= 1


def test_the_number_does_not_depend_on_the_number_of_processes(monkeypatch):
    monkeypatch.setattr(number_of_topics, "SPLITS", 2)
    monkeypatch.setattr(number_of_topics, "LEAST_SAMPLES_TO_SHARE", 0)
    bags, vectors = kinds_within_kinds(2, 3, num_samples=12)
    alone, together = (reproducible_number(bags, vectors, [2, 3, 4, 6], seed=0, workers=workers) for workers in (1, 2))
    assert together == alone
