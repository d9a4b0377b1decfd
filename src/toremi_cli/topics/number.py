"""How many topics a corpus has: as many as come out again when the samples are halved.

For each number K on a ladder the samples are halved at random, several times; both halves are fitted apart, and both
models assign all of them. Their agreement A (adjusted mutual information, 0 by chance, 1 if equal) is the reproducible
part of the labels' entropy H, so H * A is what K topics tell about a sample again and again and H * (1 - A) what they
make up. The score H * (A - PENALTY * (1 - A)) favours neither the few topics that are always found nor the many that
never are. Among numbers that cannot be told from the best, the largest is taken: fine topics can be rolled up later,
coarse ones not be taken apart. (Stability as a criterion: Lange et al. 2004, "Stability-based validation of clustering
solutions".)

All of the ladder is tried. Where topics lie within topics the score has more than one peak (Reuters: at 4 and 17), so
that a falling score doesn't tell what comes after the valley. The halves are fitted as the whole will be, with spare
topics where some die out: k-means' cuts of frequent kinds alone come out differently each time, and would speak against
large numbers.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from toremi_cli import console
from toremi_cli.topics.fusion import alive, alternate, views_of, with_spare_topics
from toremi_cli.topics.kmeans import fit_kmeans, nearest

PENALTY = 1.5
MOST_SAMPLES = 3000
"""Samples that are halved, at most."""
SPLITS = 5
ROUNDS, STARTS = 6, 4
STEP = 1.2
"""The ladder's next number, relative to the last."""


def ladder(most: int, also: int) -> list[int]:
    """Numbers from 2 to `most`, each about `STEP` times the last, and `also` if it is among them."""
    numbers = {also} if 2 <= also <= most else set()
    number = 2
    while number <= most:
        numbers.add(number)
        number = max(number + 1, round(number * STEP))
    return sorted(numbers)


def most_topics(num_samples: int, num_areas: int, min_topic_samples: int) -> int:
    """The largest number to try: Top2Vec's, or the square root of half the samples; a half must hold so many topics."""
    used = min(num_samples, MOST_SAMPLES)
    return min(max(num_areas, round((used / 2) ** 0.5)), used // 2 // min_topic_samples)


def reproducible_number(bags: sp.csr_matrix, vectors: np.ndarray, numbers: list[int], seed: int) -> tuple[int, float]:
    """The largest of the numbers of topics that halves of the samples reproduce best, and the halves' agreement on it.

    Args:
        bags: (num_samples, num_words) dampened counts.
        vectors: (num_samples, dim) of length 1.
        numbers: the numbers to try, ascending, at least one.
        seed: of the halving and of k-means.
    """
    agreements, scores = [], []  # (num_numbers, SPLITS)
    with console.progress("choosing the number of topics", len(numbers), "numbers") as bar:
        for number in numbers:
            agreement, entropy = (np.array(values) for values in _reproduction(bags, vectors, number, seed))
            agreements.append(agreement)
            scores.append(entropy * (agreement - PENALTY * (1 - agreement)))
            bar.advance()
    chosen = last_of_the_best(np.array(scores))
    return numbers[chosen], float(agreements[chosen].mean())


def last_of_the_best(scores: np.ndarray) -> int:
    """The last row that is behind the row of the highest mean by at most one standard error of their difference.

    Both are compared halving by halving: what makes a halving easy or hard for all numbers cancels out. (The rule of
    one standard error: Breiman et al. 1984, "Classification and Regression Trees".)

    Args:
        scores: (num_rows, num_splits), at least two splits.
    """
    behind = scores[scores.mean(axis=1).argmax()] - scores
    error = behind.std(axis=1, ddof=1) / scores.shape[1] ** 0.5
    return int(np.flatnonzero(behind.mean(axis=1) <= error)[-1])


def _reproduction(bags: sp.csr_matrix, vectors: np.ndarray, number: int, seed: int) -> tuple[list[float], list[float]]:
    """For each halving, the agreement of the two halves' models, and the mean entropy of their labels in nats."""
    from sklearn.metrics import adjusted_mutual_info_score

    agreement, entropy = [], []
    for split in range(SPLITS):
        rows = np.random.default_rng((seed, split)).permutation(len(vectors))[:MOST_SAMPLES]
        halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        one, two = (_fit_and_assign(bags, vectors, half, rows, number, seed) for half in halves)
        agreement.append(float(adjusted_mutual_info_score(one, two)))
        entropy.append((_entropy(one) + _entropy(two)) / 2)
    return agreement, entropy


def _fit_and_assign(
    bags: sp.csr_matrix, vectors: np.ndarray, half: np.ndarray, rows: np.ndarray, number: int, seed: int
) -> np.ndarray:
    centres = fit_kmeans(vectors[half], number, seed, STARTS)
    views, posterior = alternate(bags[half], vectors[half], nearest(vectors[half], centres), len(centres), ROUNDS)
    if len(alive(posterior)) < posterior.shape[1]:  # as it will be in the fit
        posterior = with_spare_topics(bags[half], vectors[half], number, seed, STARTS, ROUNDS)
        views = views_of(bags[half], vectors[half], posterior)
    return views.joint(*views.scores(bags[rows], vectors[rows])).argmax(axis=1)


def _entropy(labels: np.ndarray) -> float:
    share = np.bincount(labels) / len(labels)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())
