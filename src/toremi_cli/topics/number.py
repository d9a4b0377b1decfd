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

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from toremi_cli import console
from toremi_cli.engine import in_processes
from toremi_cli.topics.fusion import alive, alternate, views_of, with_spare_topics
from toremi_cli.topics.kmeans import fit_kmeans, nearest, one_thread

PENALTY = 1.5
MOST_SAMPLES = 3000
"""Samples that are halved, at most."""
SPLITS = 5
ROUNDS, STARTS = 6, 4
STEP = 1.2
"""The ladder's next number, relative to the last."""
LEAST_SAMPLES_TO_SHARE = 500
"""With fewer samples in a halving, starting processes takes longer than they save."""


@dataclass(frozen=True)
class Halving:
    """Samples to halve at one place, and a number of topics to fit to each half."""

    bags: sp.csr_matrix
    """(num_samples, num_words) dampened counts, in random order."""
    vectors: np.ndarray
    """(num_samples, dim) of the same samples."""
    number: int
    seed: int


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


def reproducible_number(
    bags: sp.csr_matrix, vectors: np.ndarray, numbers: list[int], seed: int, workers: int = 1
) -> tuple[int, float]:
    """The largest of the numbers of topics that halves of the samples reproduce best, and the halves' agreement on it.

    Args:
        bags: (num_samples, num_words) dampened counts.
        vectors: (num_samples, dim) of length 1.
        numbers: the numbers to try, ascending, at least one.
        seed: of the halving and of k-means.
        workers: processes to fit the halves in; the result does not depend on them.
    """
    halvings = []
    for split in range(SPLITS):
        rows = np.random.default_rng((seed, split)).permutation(len(vectors))[:MOST_SAMPLES]
        halvings += [Halving(bags[rows], vectors[rows], number, seed) for number in numbers]
    order = sorted(range(len(halvings)), key=lambda place: -halvings[place].number)  # they take longest
    agreements = np.zeros(len(halvings))
    scores = np.zeros(len(halvings))
    if min(len(vectors), MOST_SAMPLES) < LEAST_SAMPLES_TO_SHARE:
        workers = 1
    with console.progress("choosing the number of topics", len(halvings), "fits") as bar:
        for done, (agreement, entropy) in in_processes(_reproduction, [halvings[place] for place in order], workers):
            agreements[order[done]] = agreement
            scores[order[done]] = entropy * (agreement - PENALTY * (1 - agreement))
            bar.advance()
    chosen = last_of_the_best(scores.reshape(SPLITS, len(numbers)).T)
    return numbers[chosen], float(agreements.reshape(SPLITS, len(numbers))[:, chosen].mean())


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


def _reproduction(halving: Halving) -> tuple[float, float]:
    """The agreement of the two halves' models on all samples, and the mean entropy of their labels in nats."""
    from sklearn.metrics import adjusted_mutual_info_score

    middle = len(halving.vectors) // 2
    with one_thread():
        one, two = (_fit_and_assign(halving, half) for half in (slice(None, middle), slice(middle, None)))
    return float(adjusted_mutual_info_score(one, two)), (_entropy(one) + _entropy(two)) / 2


def _fit_and_assign(halving: Halving, half: slice) -> np.ndarray:
    bags, vectors, number, seed = halving.bags[half], halving.vectors[half], halving.number, halving.seed
    centres = fit_kmeans(vectors, number, seed, STARTS)
    views, posterior = alternate(bags, vectors, nearest(vectors, centres), len(centres), ROUNDS)
    if len(alive(posterior)) < posterior.shape[1]:  # as it will be in the fit
        posterior = with_spare_topics(bags, vectors, number, seed, STARTS, ROUNDS)
        views = views_of(bags, vectors, posterior)
    return views.joint(*views.scores(halving.bags, halving.vectors)).argmax(axis=1)


def _entropy(labels: np.ndarray) -> float:
    share = np.bincount(labels) / len(labels)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())
