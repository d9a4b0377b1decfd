"""How well topics keep junk apart from text: over an annotated or clustered workdir whose junk is known by its sources.

    python benchmarks/topic_kinds.py WORKDIR --junk junk_

A source is junk if its name begins with `--junk`. Prints, by tokens: the part of the junk that lies in topics of which
at least 90% are junk, the part of the clean text that lies in those, and both for each source.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from toremi_cli.layout import Workdir
from toremi_cli.schemas import CLUSTERS, SAMPLES, TOPICS
from toremi_cli.tables import TableReader

MOSTLY = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--junk", default="junk_", help="what the names of junk sources begin with")
    arguments = parser.parse_args()
    workdir = Workdir(arguments.workdir)
    samples = TableReader(workdir.samples, SAMPLES).read(["source", "num_tokens"])
    topic = TableReader(workdir.clusters, CLUSTERS).read(["topic"])["topic"].to_numpy()
    names, source = np.unique(samples["source"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    tokens = samples["num_tokens"].to_numpy()
    is_junk = np.array([name.startswith(arguments.junk) for name in names])[source]
    apart = np.zeros(len(topic), bool)
    for number in np.unique(topic[topic >= 0]):
        inside = topic == number
        apart |= inside & (tokens[inside & is_junk].sum() >= MOSTLY * tokens[inside].sum())
    print(f"{topic.max() + 1} topics; {100 * is_junk @ tokens / tokens.sum():.1f}% of the tokens are junk")
    print(f"junk in topics of at least {MOSTLY:.0%} junk: {share(tokens, apart, is_junk):.1%}")
    print(f"clean text in them: {share(tokens, apart, ~is_junk):.2%}\n\n| source | in topics of junk |\n|---|---:|")
    for number, name in enumerate(names):
        print(f"| {name} | {share(tokens, apart, source == number):.1%} |")
    for row in TableReader(workdir.topics, TOPICS).read().to_pylist():
        if row.get("kind"):
            print(f"{row['num_tokens']:>9,} tokens  {row['name']}")


def share(tokens: np.ndarray, inside: np.ndarray, of: np.ndarray) -> float:
    """The part of the tokens `of` some samples that is `inside`; all arrays (num_samples,)."""
    return float(tokens[inside & of].sum() / max(tokens[of].sum(), 1))


if __name__ == "__main__":
    main()
