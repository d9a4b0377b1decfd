"""Topics against known labels: LDA alone, Top2Vec alone, k-means on the vectors, and the integration of the first two.

    python benchmarks/topic_quality.py DIR --samples 1500 --seeds 5 --json out.json

DIR holds JSONL files (.jsonl or .jsonl.zst) with `text` and `label`. All methods see the same vectors (doc2vec) and
the same documents; a seed changes the vectors and the methods, not the documents. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score, v_measure_score

from toremi_cli import console
from toremi_cli.topics.config import ClusterConfig
from toremi_cli.topics.fit import fit_model
from toremi_cli.topics.vectors import make_backend
from toremi_cli.topics.vectors.bags import Vocabulary, word_lists

METHODS = ("lda", "top2vec", "kmeans", "fused")
TOP_WORDS = 10
MOST_TOPICS = 30
"""Equal K is the number of labels, at most this."""
COVERAGES = (1.0, 0.9, 0.8, 0.6, 0.4)
RESAMPLES = 300


@dataclass
class Outcome:
    """What one method made of one set with one seed."""

    topic: np.ndarray
    agreement: np.ndarray
    words: list[list[str]]
    scores: dict[str, float] = field(default_factory=dict)


def main() -> None:
    arguments = parse()
    console.set_quiet(True)
    report: dict[str, Any] = {}
    for path in sorted(
        p for p in arguments.data.iterdir() if p.name.split(".")[0] in arguments.sets or not arguments.sets
    ):
        texts, labels = read(path, arguments.samples)
        name = path.name.split(".")[0]
        report[name] = measure_set(texts, labels, range(arguments.seeds), name)
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1))
        print(render(name, len(texts), len(set(labels)), report[name]), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of labelled JSONL files")
    parser.add_argument("--sets", nargs="*", default=[], help="names of files without suffix; default: all")
    parser.add_argument("--samples", type=int, default=1500, help="documents of each set, drawn once")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all numbers here")
    return parser.parse_args()


def read(path: Path, samples: int) -> tuple[list[str], list[str]]:
    if path.suffix == ".zst":
        with zstandard.open(path, "rt", encoding="utf-8") as file:
            rows = [row for row in map(json.loads, file) if row.get("label")]
    else:
        rows = [row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()) if row.get("label")]
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:samples])
    return [rows[i]["text"] for i in chosen], [rows[i]["label"] for i in chosen]


def measure_set(texts: list[str], labels: list[str], seeds: Sequence[int], name: str) -> dict[str, Any]:
    equal = min(len(set(labels)), MOST_TOPICS)
    coherence = Coherence(texts)
    outcomes: dict[str, dict[str, list[Outcome]]] = {"equal K": {}, "own K": {}}
    for seed in seeds:
        backend = make_backend("doc2vec", seed=seed)
        backend.fit(texts)
        vectors = backend.encode(texts)
        own = run("fused", None, texts, vectors, seed)
        for method in METHODS:
            outcomes["equal K"].setdefault(method, []).append(run(method, equal, texts, vectors, seed))
            # k-means and LDA find no number: they get the fused model's.
            number = None if method == "top2vec" else len(own.words)
            result = own if method == "fused" else run(method, number, texts, vectors, seed)
            outcomes["own K"].setdefault(method, []).append(result)
        print(f"{name}, seed {seed} done", flush=True)
    result: dict[str, Any] = {}
    for kind, by_method in outcomes.items():
        for several in by_method.values():
            for outcome in several:
                outcome.scores |= quality(outcome, labels) | coherence.of(outcome.words)
        result[kind] = {
            method: {key: [o.scores[key] for o in several] for key in several[0].scores}
            for method, several in by_method.items()
        }
        result[kind]["difference"] = {
            method: bootstrap(by_method["fused"], by_method[method], labels) for method in METHODS if method != "fused"
        }
    result["coverage"] = [precision_by_coverage(o, labels) for o in outcomes["equal K"]["fused"]]
    return result


def run(method: str, number: int | None, texts: list[str], vectors: np.ndarray, seed: int) -> Outcome:
    config = ClusterConfig(method=method, num_topics=number, seed=seed)
    start = time.perf_counter()
    fitted, megabytes = with_peak_memory(lambda: fit_model(texts, vectors, config))
    probs, agreement = fitted.model.assign(texts, vectors)
    seconds = time.perf_counter() - start
    measured = {"K": fitted.model.num_topics, "seconds": seconds, "MB": megabytes}
    return Outcome(probs.argmax(axis=1), agreement, fitted.keywords, measured)


def with_peak_memory(action: Callable[[], Any]) -> tuple[Any, float]:
    """The action's result and how far it raised the resident memory, in MB, sampled 50 times a second."""
    done = threading.Event()
    before = peak = resident_mb()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return action(), peak - before
    finally:
        done.set()
        watcher.join()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def quality(outcome: Outcome, labels: list[str]) -> dict[str, float]:
    right = matches(outcome.topic, labels)
    return {
        "AMI": float(adjusted_mutual_info_score(labels, outcome.topic)),
        "NMI": float(normalized_mutual_info_score(labels, outcome.topic)),
        "V": float(v_measure_score(labels, outcome.topic)),
        "purity": float(right.mean()),
    }


def matches(topic: np.ndarray, labels: list[str]) -> np.ndarray:
    """(num_samples,) whether a sample's label is the most frequent one of its topic."""
    values = np.array(labels)
    right = np.zeros(len(values), bool)
    for k in np.unique(topic):
        names, counts = np.unique(values[topic == k], return_counts=True)
        right |= (topic == k) & (values == names[counts.argmax()])
    return right


def precision_by_coverage(outcome: Outcome, labels: list[str]) -> list[float]:
    """Precision among the samples of highest agreement, for each of COVERAGES."""
    right = matches(outcome.topic, labels)[np.argsort(-outcome.agreement, kind="stable")]
    return [float(right[: round(len(right) * share)].mean()) for share in COVERAGES]


def bootstrap(ours: list[Outcome], theirs: list[Outcome], labels: list[str]) -> dict[str, float]:
    """Mean difference of AMI, paired by seed and document, with a 95% interval over seeds and documents."""
    values = np.array(labels)
    generator = np.random.default_rng(0)
    differences = []
    for _ in range(RESAMPLES):
        i = generator.integers(len(ours))
        rows = generator.integers(len(values), size=len(values))
        scores = [adjusted_mutual_info_score(values[rows], o.topic[rows]) for o in (ours[i], theirs[i])]
        differences.append(scores[0] - scores[1])
    mean = np.mean([o.scores["AMI"] - t.scores["AMI"] for o, t in zip(ours, theirs, strict=True)])
    low, high = np.quantile(differences, [0.025, 0.975])
    return {"mean": float(mean), "low": float(low), "high": float(high)}


class Coherence:
    """NPMI over documents, c_v, and diversity of the topics' first words."""

    def __init__(self, texts: list[str]) -> None:
        self.documents = word_lists(texts)
        self.vocabulary = Vocabulary.learn(self.documents, 20_000, 2)
        self.present = self.vocabulary.count(self.documents)
        self.present.data[:] = 1

    def of(self, topics: list[list[str]]) -> dict[str, float]:
        words = [topic[:TOP_WORDS] for topic in topics if len(topic) >= TOP_WORDS]
        distinct = {word for topic in words for word in topic}
        return {
            "NPMI": float(np.mean([self._npmi(topic) for topic in words])),
            "c_v": self._c_v(words),
            "diversity": len(distinct) / sum(len(topic) for topic in words),
        }

    def _npmi(self, words: list[str]) -> float:
        known = [self.vocabulary.index[word] for word in words if word in self.vocabulary.index]
        columns = self.present.tocsc()[:, known]
        together = (columns.T @ columns).toarray() / self.present.shape[0]
        alone = np.diag(together)
        first, second = np.triu_indices(len(known), 1)
        joint = together[first, second]
        with np.errstate(divide="ignore", invalid="ignore"):
            npmi = np.log(joint / (alone[first] * alone[second])) / -np.log(joint)
        return float(np.where(joint > 0, npmi, -1.0).mean())

    def _c_v(self, topics: list[list[str]]) -> float:
        from gensim.corpora import Dictionary
        from gensim.models import CoherenceModel

        wanted = {word for topic in topics for word in topic}
        documents = [[word if word in wanted else "-" for word in words] for words in self.documents if words]
        dictionary = Dictionary(documents)
        model = CoherenceModel(topics=topics, texts=documents, dictionary=dictionary, coherence="c_v", processes=1)
        return float(model.get_coherence())


def render(name: str, num_samples: int, num_labels: int, result: dict[str, Any]) -> str:
    keys = ("K", "AMI", "NMI", "V", "purity", "NPMI", "c_v", "diversity", "seconds", "MB")
    lines = [f"\n### {name}: {num_samples:,} documents, {num_labels} labels\n"]
    for kind in ("equal K", "own K"):
        lines += [f"| {kind} | " + " | ".join(keys) + " |", "|---|" + "---:|" * len(keys)]
        for method in METHODS:
            lines.append(f"| {method} | " + " | ".join(cell(key, result[kind][method][key]) for key in keys) + " |")
        for method, d in result[kind]["difference"].items():
            verdict = f"AMI of fused less {method}: {d['mean']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f})"
            lines.append(("\n" if method == METHODS[0] else "") + f"- {verdict}")
        lines.append("")
    precision = np.mean(result["coverage"], axis=0)
    shown = ", ".join(f"{share:.0%}: {p:.3f}" for share, p in zip(COVERAGES, precision, strict=True))
    return "\n".join([*lines, f"Precision of the samples of highest agreement, by coverage: {shown}"])


def cell(key: str, values: list[float]) -> str:
    if key in ("K", "seconds", "MB"):
        return f"{np.median(values):.0f}"
    mean, spread = np.mean(values), np.std(values)
    return f"{mean:.3f} ± {spread:.3f}" if key == "AMI" else f"{mean:.3f}"


if __name__ == "__main__":
    main()
