"""The intervals of `toremi compare` beside every subset of a few documents: a part of `benchmarks.exactness`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from scipy.special import stdtrit

from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.evaluate.intervals import paired_differences
from toremi_cli.schemas import MACRO

Documents = Sequence[tuple[float, float]]
"""Bits and bytes of each."""


def interval_pairs(seed: int) -> Iterator[tuple[str, str, Sequence[float], Sequence[float]]]:
    """What is compared, with what, the values found and those expected, for the difference of two runs."""
    stream = np.random.default_rng(seed)
    names, num_bytes = np.repeat(["a", "b", "c"], (8, 9, 11)), stream.lognormal(7, 1, 28).astype(np.int64)
    ids, nats = np.arange(28).astype(str), num_bytes * stream.uniform(0.8, 1.2, (2, 28))
    run, base = (DocumentScores(names, ids, own, num_bytes, num_bytes) for own in nats)
    found, bits = paired_differences(run, base), (nats[0] - nats[1]) / math.log(2)
    rows = [(str(name), float(b), float(n)) for name, b, n in zip(names, bits, num_bytes, strict=True)]
    sources = {name: [(b, n) for source, b, n in rows if source == name] for name in "abc"}
    ends = {name: _ends(own) for name, own in sources.items()}
    yield (
        "interval of one source",
        "every subset of its documents",
        [end for name in sources for end in (found[name].low, found[name].high)],
        [end for name in sources for end in ends[name]],
    )
    errors = [_error(own) for own in sources.values()]
    yield "its standard error", "leaving out one document", [found[name].stderr for name in sources], errors
    variances = [(error / 3) ** 2 for error in errors]
    freedoms = [len(own) - 1 for own in sources.values()]
    freedom = sum(variances) ** 2 / sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))
    middle, half = sum(map(_ratio, sources.values())) / 3, stdtrit(freedom, 0.975) * math.sqrt(sum(variances))
    macro = (found[MACRO].low, found[MACRO].high)
    yield "interval of macro", "Welch and Satterthwaite by hand", macro, (middle - half, middle + half)


def _ends(documents: Documents) -> tuple[float, float]:
    """The ratios between which 95% of those of all subsets lie."""
    sizes = range(1, len(documents) + 1)
    ratios = sorted(_ratio(part) for size in sizes for part in combinations(documents, size))
    outside = math.floor(0.025 * (len(ratios) + 1))
    return ratios[outside - 1], ratios[-outside]


def _error(documents: Documents) -> float:
    """Jackknife."""
    without = [_ratio([*documents[:i], *documents[i + 1 :]]) for i in range(len(documents))]
    return math.sqrt(math.fsum((ratio - _ratio(documents)) ** 2 for ratio in without))


def _ratio(documents: Documents) -> float:
    """Bits a byte."""
    return math.fsum(b for b, _ in documents) / math.fsum(n for _, n in documents)
