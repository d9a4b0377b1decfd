"""Topics are cut where their samples fall into clearly different kinds of text.

Words and vectors say what a sample is about. What they hardly know (tables, encoded files, another script)
they put somewhere all the same, and a topic is then one name for two kinds of text. By the sample view (`sample_view`)
those lie apart: a topic's samples are parted by script, and by a mixture of Gaussians over the view's numbers, whose
components are merged until all that are left lie SEPARATION apart. Samples without a known word are parted likewise, as
if they were a topic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from toremi_cli.topics.sample_view import NO_SCRIPT, SampleViews

SEPARATION = 4.0
"""How many of their mean standard deviations two kinds lie apart, along the line that tells them best (Ashman's D; the
halves of a bell curve have 2.7, those of a flat one 3.5)."""
SPREAD = 0.15
"""Nats that are added to the spread of every kind: smaller differences are none."""
LINES_IN_NATS = 3.0
"""As how large a difference it counts whether all lines of a text are repeated or none."""
MOST_COMPONENTS = 8
"""Of a topic, before they are merged."""
STARTS = 3
UNKNOWN = -1
"""The topic of samples without a known word."""


@dataclass(frozen=True)
class Kinds:
    """The pieces that topics are cut into, the largest first, and how a sample is put into one.

    `topic` (num_pieces,) that each is of, before the cut; `script` of its samples, '' where any will do; `log_share`
    (num_pieces,), `mean` (num_pieces, 3) and `factor` (num_pieces, 3, 3): of a Gaussian over the view's numbers;
    `name` of its kind, '' for the largest piece of a topic.
    """

    topic: np.ndarray
    script: list[str]
    log_share: np.ndarray
    mean: np.ndarray
    factor: np.ndarray
    name: list[str]

    @classmethod
    def of(cls, names: dict[str, list[str]], arrays: dict[str, np.ndarray]) -> Kinds:
        """From what `names` and `arrays` give."""
        found = (arrays[f"kinds_{name}"] for name in ("topic", "log_share", "mean", "factor"))
        topic, log_share, mean, factor = found
        return cls(topic, names["script"], log_share, mean, factor, names["name"])

    def arrays(self) -> dict[str, np.ndarray]:
        """What is kept as arrays."""
        return {f"kinds_{name}": getattr(self, name) for name in ("topic", "log_share", "mean", "factor")}

    def names(self) -> dict[str, list[str]]:
        """What is kept as JSON."""
        return {"script": self.script, "name": self.name}

    def divide(self, probs: np.ndarray, known: np.ndarray, views: SampleViews) -> tuple[np.ndarray, np.ndarray]:
        """Give the probability of each topic to the piece of it that a sample is most likely in.

        Args:
            probs: (num_samples, num_topics).
            known: (num_samples,) whether any word of the sample is known, so that `probs` says anything.
            views: of the samples.

        Returns:
            (num_samples, num_pieces) float32, and (num_samples,) whether it says anything of the sample.
        """
        numbers = in_nats(views.numbers())
        divided = np.zeros((len(probs), len(self.topic)), np.float32)
        rows = np.arange(len(probs))
        for topic in range(probs.shape[1]):
            divided[rows, self._likeliest(topic, numbers, views.script)] = probs[:, topic]
        if UNKNOWN not in self.topic:
            return divided, known
        divided[~known] = 0
        piece = self._likeliest(UNKNOWN, numbers[~known], views.script[~known])
        divided[np.flatnonzero(~known), piece] = 1
        return divided, np.full(len(probs), True)

    def _likeliest(self, topic: int, numbers: np.ndarray, script: np.ndarray) -> np.ndarray:
        """(num_samples,) the piece of a topic that each sample is most likely in."""
        pieces = np.flatnonzero(self.topic == topic)
        found = np.full(len(numbers), pieces[0])
        if len(pieces) == 1:
            return found
        own = {self.script[piece] for piece in pieces} - {""}
        wanted = np.where(np.isin(script.astype(str), sorted(own)), script.astype(str), "")
        for name in sorted({self.script[piece] for piece in pieces}):
            rows = np.flatnonzero(wanted == name)
            among = np.array([piece for piece in pieces if self.script[piece] == name])
            scores = [self._log_density(piece, numbers[rows]) for piece in among]
            found[rows] = among[np.argmax(scores, axis=0)] if len(rows) else 0
        return found

    def _log_density(self, piece: int, numbers: np.ndarray) -> np.ndarray:
        away = np.einsum("nd,de->ne", numbers - self.mean[piece], self.factor[piece])
        log_volume = np.log(np.abs(np.linalg.det(self.factor[piece])))
        return np.asarray(self.log_share[piece] + log_volume - 0.5 * np.einsum("ne,ne->n", away, away))


def find_kinds(topic: np.ndarray, views: SampleViews, num_topics: int, least: int, seed: int) -> Kinds | None:
    """Cut the topics; None where none falls apart.

    Args:
        topic: (num_samples,) of the samples to fit on; UNKNOWN where no word of one is known.
        views: of the same samples.
        num_topics: how many topics there are.
        least: samples that a piece has at least; fewer samples that are unknown make no topic.
        seed: of the mixtures.
    """
    numbers, script = in_nats(views.numbers()), views.script.astype(str)
    pieces: list[dict[str, Any]] = []
    for number in (*range(num_topics), UNKNOWN):
        members = np.flatnonzero(topic == number)
        if number == UNKNOWN and len(members) < least:
            continue
        for name, rows in by_script(members, script, least):
            pieces += [{"topic": number, "script": name, "rows": part} for part in apart(numbers, rows, least, seed)]
    if len(pieces) == num_topics:
        return None
    pieces.sort(key=lambda piece: (-len(piece["rows"]), piece["topic"]))
    parts = [piece["rows"] for piece in pieces]
    return Kinds(
        np.array([piece["topic"] for piece in pieces]),
        [piece["script"] for piece in pieces],
        np.log([len(part) for part in parts]),
        np.array([numbers[part].mean(axis=0) for part in parts]),
        np.array([np.linalg.inv(np.linalg.cholesky(covariance(numbers[part]))).T for part in parts]),
        _names(pieces, numbers, script),
    )


def by_script(members: np.ndarray, script: np.ndarray, least: int) -> list[tuple[str, np.ndarray]]:
    """Groups of samples: first, as '', those of the commonest script and of rare ones, then one for each other."""
    names, counts = np.unique(script[members], return_counts=True)
    others = [str(name) for name, count in zip(names, counts, strict=True) if count >= least]
    others = [name for name in others if name != str(names[counts.argmax()])]
    first = members[~np.isin(script[members], others)]
    return [("", first), *((name, members[script[members] == name]) for name in others)]


def apart(numbers: np.ndarray, rows: np.ndarray, least: int, seed: int) -> list[np.ndarray]:
    """Part samples into those of clearly different kinds, the largest part first.

    Args:
        numbers: (num_samples, 3) of the view, in nats.
        rows: which of the samples.
        least: samples that a part has at least.
        seed: of the mixture.
    """
    from sklearn.mixture import GaussianMixture

    components = min(MOST_COMPONENTS, len(rows) // least)
    if components < 2:
        return [rows]
    mixture = GaussianMixture(components, reg_covar=SPREAD**2, n_init=STARTS, random_state=seed)
    component = mixture.fit_predict(numbers[rows])
    parts = [rows[component == number] for number in np.unique(component)]
    while len(parts) > 1:
        one, two, distance = _closest([numbers[part] for part in parts], least)
        if distance >= SEPARATION and min(map(len, parts)) >= least:
            break
        parts[one] = np.concatenate([parts[one], parts.pop(two)])
    return sorted((np.sort(part) for part in parts), key=lambda part: (-len(part), int(part[0])))


def _closest(parts: list[np.ndarray], least: int) -> tuple[int, int, float]:
    """The two parts that lie closest, and how far apart; where some are too small, of pairs with one of those."""
    pairs = [(one, two) for two in range(len(parts)) for one in range(two)]
    small = [(one, two) for one, two in pairs if min(len(parts[one]), len(parts[two])) < least]
    distances = [(separation(parts[one], parts[two]), one, two) for one, two in small or pairs]
    distance, one, two = min(distances)
    return one, two, distance


def separation(one: np.ndarray, two: np.ndarray) -> float:
    """Ashman's D of two sets of samples, along Fisher's direction (Ashman et al. 1994, "Detecting bimodality")."""
    difference = one.mean(axis=0) - two.mean(axis=0)
    spread = (covariance(one) + covariance(two)) / 2
    return float(np.sqrt(difference @ np.linalg.solve(spread, difference)))


def covariance(numbers: np.ndarray) -> np.ndarray:
    """(3, 3) of samples (num_samples, 3), with SPREAD."""
    centred = numbers - numbers.mean(axis=0)
    return np.asarray(centred.T @ centred / len(numbers) + SPREAD**2 * np.eye(numbers.shape[1]))


def in_nats(numbers: np.ndarray) -> np.ndarray:
    """(num_samples, 3) the view's numbers on one scale."""
    return np.asarray(numbers * [1.0, 1.0, LINES_IN_NATS], dtype=np.float64)


def _names(pieces: list[dict[str, Any]], numbers: np.ndarray, script: np.ndarray) -> list[str]:
    """What tells each piece from the largest of its topic; pieces are sorted, the largest first."""
    everything = np.concatenate([piece["rows"] for piece in pieces])
    largest: dict[int, np.ndarray] = {}
    names = []
    for piece in pieces:
        topic, rows = piece["topic"], piece["rows"]
        unknown = topic == UNKNOWN
        usual = largest.setdefault(topic, rows)
        if unknown:
            usual = everything
        own, theirs = _commonest(script[rows]), _commonest(script[usual])
        if usual is rows:
            names.append("")
        elif own != theirs:
            names.append(script_name(own))
        else:
            names.append(kind_name(numbers[rows].mean(axis=0) - numbers[usual].mean(axis=0)))
        if unknown:
            names[-1] = f"no known words, {names[-1]}"
    return names


def _commonest(script: np.ndarray) -> str:
    names, counts = np.unique(script, return_counts=True)
    return str(names[counts.argmax()])


def script_name(script: str) -> str:
    """What a person would call a text in this script."""
    return "no letters" if script == NO_SCRIPT else f"{script} script"


def kind_name(difference: np.ndarray) -> str:
    """What a person would call texts whose numbers differ so from others, (3,) nats."""
    ngram, shuffled, lines = difference
    order = shuffled - ngram
    named = {"repeated lines": lines, "regular": max(order, -ngram), "random": -order, "rare words": shuffled}
    return max(named, key=lambda name: named[name])
