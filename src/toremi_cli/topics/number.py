"""How many topics a corpus has: as many as come out again when the samples are halved.

For each number K on a ladder, both halves of the samples are fitted apart and assign all of them. Their agreement A
(adjusted mutual information) is the reproducible part of the labels' entropy H; the score H * (A - PENALTY * (1 - A))
favours neither the few topics that are always found nor the many that never are (Lange et al. 2004, "Stability-based
validation of clustering solutions"). Of numbers that cannot be told from the best the largest is taken: fine topics can
be rolled up later. All of the ladder is tried, since topics within topics give the score several peaks. Where topics
die out in most halves, some kinds are far more frequent than others, and only such numbers are compared; what halves
don't tell apart is then rolled up (`reproduction.merge_unreproduced`). docs/annotation.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from toremi_cli import console
from toremi_cli.engine import in_processes
from toremi_cli.topics.fusion import alive, alternate, views_of, with_spare_topics
from toremi_cli.topics.kmeans import fit_kmeans, nearest, one_thread
from toremi_cli.topics.reproduction import Half, entropy_of, score

MOST_SAMPLES = 3000
"""Samples that are halved, at most."""
SPLITS = 5
ROUNDS, STARTS = 6, 4
STEP = 1.2
"""The ladder's next number, relative to the last."""
WORTH_COMPARING = 2 / 3
"""Numbers at which topics die out come first only with a score of so much of the best: far too many topics of a few
plain kinds die out as well."""
LEAST_SAMPLES_TO_SHARE = 500
"""With fewer samples in a halving, starting processes takes longer than they save."""


@dataclass(frozen=True)
class Halving:
    """Samples to halve at one place, and a number of topics to fit to each half."""

    rows: np.ndarray
    """(num_samples,) which samples they are, in random order."""
    bags: sp.csr_matrix
    """(num_samples, num_words) their dampened counts."""
    vectors: np.ndarray
    """(num_samples, dim)."""
    number: int
    seed: int


@dataclass(frozen=True)
class Chosen:
    """The number of topics that was chosen.

    `agreement`: of the halves' models on it, the mean (AMI); `compared`: the numbers it was chosen from, ascending;
    `halves`: what its models say, where topics die out, so that those can be rolled up which they don't tell apart.
    """

    number: int
    agreement: float
    compared: list[int]
    halves: list[Half]


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
) -> Chosen:
    """The largest of the numbers of topics that halves of the samples reproduce best.

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
        halvings += [Halving(rows, bags[rows], vectors[rows], number, seed) for number in numbers]
    order = sorted(range(len(halvings)), key=lambda place: -halvings[place].number)  # they take longest
    found: dict[int, Reproduction] = {}
    if min(len(vectors), MOST_SAMPLES) < LEAST_SAMPLES_TO_SHARE:
        workers = 1
    with console.progress("choosing the number of topics", len(halvings), "fits") as bar:
        for done, result in in_processes(reproduce, [halvings[place] for place in order], workers):
            found[order[done]] = result
            bar.advance()
    by_number = {
        number: [found[place] for place in range(at, len(halvings), len(numbers))] for at, number in enumerate(numbers)
    }
    scores = {
        number: np.array([score(each.agreement, each.entropy) for each in by_number[number]]) for number in numbers
    }
    least = WORTH_COMPARING * max(each.mean() for each in scores.values())
    die_out = [
        number for number in numbers if _topics_die_out(by_number[number]) and scores[number].mean() > max(least, 0)
    ]
    compared = die_out or numbers
    number = compared[last_of_the_best(np.array([scores[each] for each in compared]))]
    agreement = float(np.mean([each.agreement for each in by_number[number]]))
    halves = [half for each in by_number[number] for half in each.halves] if die_out else []
    return Chosen(number, agreement, compared, halves)


def _topics_die_out(several: Sequence[Reproduction]) -> bool:
    """Whether they do in most halves."""
    died = [half.died for each in several for half in each.halves]
    return 2 * sum(died) > len(died)


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


@dataclass(frozen=True)
class Reproduction:
    """What came out of one halving.

    `agreement` of both halves' models on all samples (AMI), the mean `entropy` of their topics in nats, and `halves`.
    """

    agreement: float
    entropy: float
    halves: tuple[Half, Half]


def reproduce(halving: Halving) -> Reproduction:
    """Fit both halves and compare what they say of all samples."""
    from sklearn.metrics import adjusted_mutual_info_score

    middle = len(halving.rows) // 2
    with one_thread():
        one, two = (_fit_and_assign(halving, half) for half in (slice(None, middle), slice(middle, None)))
    agreement = float(adjusted_mutual_info_score(one.topic, two.topic))
    return Reproduction(agreement, (entropy_of(one.topic) + entropy_of(two.topic)) / 2, (one, two))


def _fit_and_assign(halving: Halving, half: slice) -> Half:
    bags, vectors, number, seed = halving.bags[half], halving.vectors[half], halving.number, halving.seed
    centres = fit_kmeans(vectors, number, seed, STARTS)
    views, posterior = alternate(bags, vectors, nearest(vectors, centres), len(centres), ROUNDS)
    died = len(alive(posterior)) < posterior.shape[1]
    if died:  # as it will be in the fit
        posterior = with_spare_topics(bags, vectors, number, seed, STARTS, ROUNDS)
        views = views_of(bags, vectors, posterior)
    topic = views.joint(*views.scores(halving.bags, halving.vectors)).argmax(axis=1)
    return Half(halving.rows, topic.astype(np.int32), died)
