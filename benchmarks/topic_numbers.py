"""What more topics than the default would cost: agreement with known labels, as they are and rolled up again.

    python -m benchmarks.topic_numbers DIR [--half tuned] [--first-seed 100] [--seeds 2]

DIR is that of benchmarks.topic_quality. The default number, that of Top2Vec's dense areas, and twice and four times
the default are fitted to the same vectors. *Rolled up*: merged down to the default number, as `--levels` does.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from benchmarks.topic_quality.data import read
from benchmarks.topic_quality.methods import doc2vec
from benchmarks.topic_quality.scores import Outcome, quality

from toremi_cli import console
from toremi_cli.topics.config import ClusterConfig
from toremi_cli.topics.fit import fit_model
from toremi_cli.topics.hierarchy import merge_closest, topic_sums
from toremi_cli.topics.top2vec_model import find_dense_areas


def assigned(texts: list[str], vectors: np.ndarray, number: int | None, seed: int) -> np.ndarray:
    """(num_texts,) the topic of each text."""
    fitted = fit_model(texts, vectors, ClusterConfig(num_topics=number, seed=seed))
    return fitted.model.assign(texts, vectors)[0].argmax(axis=1)


def measure(texts: list[str], labels: np.ndarray, seed: int) -> dict[str, tuple[float, ...]]:
    """By default and its alternatives: number of topics, AMI, purity, AMI rolled up."""
    vectors = doc2vec(texts, seed)
    default = assigned(texts, vectors, None, seed)
    least = int(default.max()) + 1
    areas = len(find_dense_areas(vectors, ClusterConfig().min_topic_samples, seed).centres)
    found = {}
    for name, number in (("default", least), ("dense areas", areas), ("twice", 2 * least), ("four times", 4 * least)):
        topic = default if name == "default" else assigned(texts, vectors, number, seed)
        fine = int(topic.max()) + 1
        coarse = merge_closest(topic_sums(topic, vectors, fine), least)[topic]
        scores, rolled = (quality(Outcome(t, np.ones(len(t)), []), labels) for t in (topic, coarse))
        found[name] = (fine, scores["AMI"], scores["purity"], rolled["AMI"])
    return found


def main() -> None:
    """Print one row a set and number: means over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--half", choices=("reported", "tuned"), default="tuned")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=100)
    arguments = parser.parse_args()
    console.set_quiet(True)
    print("| | number | topics | AMI | purity | AMI, rolled up |\n|---|---|---:|---:|---:|---:|")
    for path in sorted(arguments.data.iterdir()):
        texts, labels = read(path, arguments.half, arguments.samples)
        rows = defaultdict(list)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            for name, scores in measure(texts, labels, seed).items():
                rows[name].append(scores)
        for name, several in rows.items():
            topics, *values = np.mean(several, axis=0)
            cells = " | ".join(f"{value:.3f}" for value in values)
            print(f"| {path.name.split('.')[0]} | {name} | {topics:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
