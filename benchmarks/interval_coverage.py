"""How often do intervals of two runs that differ in nothing leave out zero? 5% is promised.

    python benchmarks/interval_coverage.py [one] [several] [--trials 2000]

Documents have lognormal lengths. A document's difference a byte is drawn anew for each, by a normal, a Laplace or a
skewed (gamma) law, with a spread that does not depend on its length, or falls with its root. For `paired_differences`
of `toremi compare`, and the percentiles of a bootstrap over documents as a yardstick, it prints the share of trials
in which zero lies outside.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import numpy as np

from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.evaluate.intervals import paired_differences
from toremi_cli.schemas import MACRO

SIGMAS = (0.5, 1.0, 1.5)
SIZES = (8, 15, 30, 200)
MIXTURES = ((12, 12), (8,) * 4, (8,) * 16, (3, 60, 20), (2, 3, 5, 8, 12, 20, 40, 80))
LAWS = ("normal", "laplace", "skewed")
BOOTSTRAPS = 400


def draw(law: str, size: int, generator: np.random.Generator) -> np.ndarray:
    """Deviations of mean zero and, up to a constant, variance one."""
    if law == "normal":
        return generator.normal(size=size)
    if law == "laplace":
        return generator.laplace(size=size) / math.sqrt(2)
    return generator.gamma(4.0, size=size) / 2 - 2


def make_pair(
    sizes: Sequence[int], sigma: float, law: str, falls: bool, generator: np.random.Generator
) -> tuple[DocumentScores, DocumentScores]:
    """Two runs on the same documents, equal but for the documents' deviations."""
    lengths, deviations, names = [], [], []
    for number, size in enumerate(sizes):
        length = np.maximum(np.exp(generator.normal(7, sigma, size)), 1).astype(np.int64)
        spread = math.exp(generator.normal(0, 0.5)) * (np.sqrt(1000 / length) if falls else 1.0)
        lengths.append(length)
        deviations.append(0.02 * spread * draw(law, size, generator))
        names += [f"s{number:02d}"] * size
    num_bytes, rate = np.concatenate(lengths), np.concatenate(deviations)
    nats = num_bytes * math.log(2)
    ids = np.arange(len(nats)).astype(str)
    sources = np.array(names)
    base = DocumentScores(sources, ids, nats, num_bytes, num_bytes)
    return DocumentScores(sources, ids, nats * (1 + rate), num_bytes, num_bytes), base


def percentiles_miss(run: DocumentScores, base: DocumentScores, generator: np.random.Generator) -> bool:
    """Whether the 2.5th to 97.5th percentile of resampled macro differences leave out zero."""
    total = np.zeros(BOOTSTRAPS)
    for source in run.domains:
        own = run.sources == source
        bits, num_bytes = (run.nats - base.nats)[own], run.num_bytes[own].astype(float)
        drawn = generator.multinomial(len(bits), np.full(len(bits), 1 / len(bits)), BOOTSTRAPS)
        total += (drawn @ bits) / (drawn @ num_bytes)
    low, high = np.quantile(total, (0.025, 0.975))
    return bool(low > 0 or high < 0)


def error_rates(sizes: Sequence[int], sigma: float, law: str, falls: bool, trials: int) -> tuple[float, float]:
    """Share of trials in which the interval of the macro difference, and the percentiles, leave out zero."""
    generator = np.random.default_rng([len(sizes), sum(sizes), int(10 * sigma), LAWS.index(law), falls])
    missed = np.zeros(2)
    for _ in range(trials):
        run, base = make_pair(sizes, sigma, law, falls, generator)
        found = paired_differences(run, base)[MACRO]
        missed += (found.low > 0 or found.high < 0, percentiles_miss(run, base, generator))
    ours, theirs = (missed / trials).tolist()
    return ours, theirs


def print_table(cases: Sequence[tuple[int, ...]], trials: int) -> None:
    """One row a case and sigma; the errors of either over laws and spreads, their mean and the largest."""
    print("| documents | sigma of lengths | ours: mean, most | bootstrap percentiles: mean, most |")
    print("|---|---|---|---|")
    for sizes in cases:
        for sigma in SIGMAS:
            found = [error_rates(sizes, sigma, law, falls, trials) for law in LAWS for falls in (False, True)]
            ours, theirs = zip(*found, strict=True)
            shown = "+".join(map(str, sizes)) if len(set(sizes)) > 1 else f"{len(sizes)} x {sizes[0]}"
            columns = (f"{np.mean(v):.3f}, {max(v):.3f}" for v in (ours, theirs))
            print(f"| {shown} | {sigma} | {' | '.join(columns)} |", flush=True)


def main() -> None:
    """Print the tables asked for."""
    cases = {"one": [(size,) for size in SIZES], "several": MIXTURES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(cases), help="one source, the macro of several; default: both")
    parser.add_argument("--trials", type=int, default=2000)
    arguments = parser.parse_args()
    error = math.sqrt(0.05 * 0.95 / arguments.trials)
    for part in arguments.parts:
        print(f"\n{part}: {arguments.trials} trials of each law and spread, standard error {error:.3f}\n")
        print_table(cases[part], arguments.trials)


if __name__ == "__main__":
    main()
