"""Topics against known labels: LDA alone, Top2Vec alone, k-means on the vectors, and the integration of the first two.

    python benchmarks/topic_quality.py DIR --samples 1500 --seeds 5 --json out.json

DIR holds JSONL files (.jsonl or .jsonl.zst) with `text` and `label`; rows without a label are left out. All methods
see the same vectors (doc2vec) and the same documents; a seed changes the vectors and the methods, not the documents.
Each set is halved once: `--half reported` (default) is what tables are made of, `--half tuned` is for trying things.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from topic_scores import COVERAGES, Coherence, Outcome, paired_differences, precision_by_coverage, quality
from toremi_cli import console
from toremi_cli.topics.config import ClusterConfig
from toremi_cli.topics.fit import NUM_KEYWORDS, fit_model
from toremi_cli.topics.kmeans import similarities
from toremi_cli.topics.vectors.doc2vec import Doc2VecBackend

METHODS = ("lda", "top2vec", "kmeans", "fused")
SHOWN = ("K", "AMI", "NMI", "V", "purity", "NPMI", "c_v", "diversity", "NPMI of own words", "seconds", "MB")
MOST_TOPICS = 30
"""Equal K is the number of labels, at most this."""


def main() -> None:
    arguments = parse()
    console.set_quiet(True)
    report: dict[str, Any] = {}
    for path in sorted(arguments.data.iterdir()):
        name = path.name.split(".")[0]
        if arguments.sets and name not in arguments.sets:
            continue
        texts, labels = read(path, arguments.half, arguments.samples)
        warm_up(texts[:200])
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        report[name] = measure_set(texts, labels, seeds, name)
        print(render(name, texts, labels, report[name]), flush=True)
        if name in arguments.plain_top2vec:
            report[name]["plain Top2Vec"] = measure_plain_top2vec(texts, labels, report[name])
            for kind, scores in report[name]["plain Top2Vec"].items():
                print(row(f"plain Top2Vec, {kind}", scores), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of labelled JSONL files")
    parser.add_argument("--sets", nargs="*", default=[], help="names of files without suffix; default: all")
    parser.add_argument("--samples", type=int, default=1500, help="documents of each set, drawn once")
    parser.add_argument("--half", choices=("reported", "tuned"), default="reported", help="of each set's documents")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--plain-top2vec", nargs="*", default=[], help="sets to run `Top2Vec(documents)` on, once")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    return parser.parse_args()


def read(path: Path, half: str, samples: int) -> tuple[list[str], np.ndarray]:
    """Texts and labels of at most `samples` labelled documents of one half of the file."""
    if path.suffix == ".zst":
        with zstandard.open(path, "rt", encoding="utf-8") as file:
            rows = [row for row in map(json.loads, file) if row.get("label")]
    else:
        rows = [row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()) if row.get("label")]
    order = np.random.default_rng(0).permutation(len(rows))
    first = 0 if half == "reported" else len(rows) // 2
    chosen = np.sort(order[first : first + min(samples, len(rows) // 2)])
    return [rows[i]["text"] for i in chosen], np.array([rows[i]["label"] for i in chosen])


def warm_up(texts: list[str]) -> None:
    """Run everything once, so that no method pays for imports and compilation."""
    backend = fitted_backend(texts, 0)
    for method in METHODS:
        run(method, 2, texts, backend, 0)


def fitted_backend(texts: list[str], seed: int) -> Doc2VecBackend:
    backend = Doc2VecBackend(dim=150, seed=seed)
    backend.fit(texts)
    return backend


def measure_set(texts: list[str], labels: np.ndarray, seeds: Sequence[int], name: str) -> dict[str, Any]:
    equal = min(len(set(labels)), MOST_TOPICS)
    coherence = Coherence(texts)
    outcomes: dict[str, dict[str, list[Outcome]]] = {"equal K": {}, "own K": {}}
    for seed in seeds:
        backend = fitted_backend(texts, seed)
        own = run("fused", None, texts, backend, seed)
        for method in METHODS:
            outcomes["equal K"].setdefault(method, []).append(run(method, equal, texts, backend, seed))
            # k-means and LDA find no number: they get the fused model's.
            number = None if method == "top2vec" else len(own.words)
            result = own if method == "fused" else run(method, number, texts, backend, seed)
            outcomes["own K"].setdefault(method, []).append(result)
        print(f"{name}, seed {seed} done", flush=True)
    result: dict[str, Any] = {}
    for kind, by_method in outcomes.items():
        for several in by_method.values():
            for outcome in several:
                outcome.scores |= quality(outcome, labels) | coherence.of(outcome)
        result[kind] = {
            method: {key: [o.scores[key] for o in several] for key in several[0].scores}
            for method, several in by_method.items()
        }
        result[kind]["difference"] = paired_differences(by_method, "fused", labels, coherence)
    result["coverage"] = [precision_by_coverage(o, labels) for o in outcomes["equal K"]["fused"]]
    return result


def run(method: str, number: int | None, texts: list[str], backend: Doc2VecBackend, seed: int) -> Outcome:
    """Fit one method and assign the texts; the time and memory of the vectors, common to all, are left out."""
    config = ClusterConfig(method=method, num_topics=number, seed=seed)
    vectors = backend.encode(texts)
    start = time.perf_counter()
    fitted, megabytes = with_peak_memory(lambda: fit_model(texts, vectors, config))
    probs, agreement = fitted.model.assign(texts, vectors)
    seconds = time.perf_counter() - start
    measured = {"K": fitted.model.num_topics, "seconds": seconds, "MB": megabytes}
    own_words = None
    if method == "lda" and fitted.model.lda:
        own_words = strongest(fitted.model.lda.topic_words.T, fitted.model.vocabulary.words)
    elif method == "top2vec" and fitted.model.centres is not None:
        own_words = strongest(similarities(backend.encode_words(), fitted.model.centres), backend.vocabulary.words)
    return Outcome(probs.argmax(axis=1), agreement, fitted.keywords, own_words, measured)


def strongest(scores: np.ndarray, vocabulary: list[str]) -> list[list[str]]:
    """For each topic the words of highest score; `scores` (num_words, num_topics)."""
    return [[vocabulary[i] for i in np.argsort(-column)[:NUM_KEYWORDS]] for column in scores.T]


def measure_plain_top2vec(texts: list[str], labels: np.ndarray, result: dict[str, Any]) -> dict[str, Any]:
    """The package as it comes, with vectors of its own, reduced by its own hierarchy to equal K."""
    from top2vec import Top2Vec

    logging.getLogger("top2vec").setLevel(logging.ERROR)
    start = time.perf_counter()
    model, megabytes = with_peak_memory(
        lambda: Top2Vec(texts, embedding_model="doc2vec", speed="learn", workers=1, verbose=False)
    )
    seconds = time.perf_counter() - start
    found, equal = model.get_num_topics(), round(result["equal K"]["fused"]["K"][0])
    coherence, scores = Coherence(texts), {}
    for kind, number in (("own K", found), ("equal K", min(equal, found))):
        reduced = number < found
        if reduced:
            model.hierarchical_topic_reduction(number)
        words = [list(topic) for topic in (model.topic_words_reduced if reduced else model.topic_words)]
        topic = np.array(model.doc_top_reduced if reduced else model.doc_top)
        outcome = Outcome(topic, np.ones(len(topic)), words)
        outcome.scores |= {"K": number, "seconds": seconds, "MB": megabytes}
        outcome.scores |= quality(outcome, labels) | coherence.of(outcome)
        scores[kind] = {key: [value] for key, value in outcome.scores.items()}
    return scores


def with_peak_memory(action: Callable[[], Any]) -> tuple[Any, float]:
    """The action's result and the peak of resident memory meanwhile, libraries included, sampled 50 times a second."""
    done = threading.Event()
    peak = resident_mb()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return action(), peak
    finally:
        done.set()
        watcher.join()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def render(name: str, texts: list[str], labels: np.ndarray, result: dict[str, Any]) -> str:
    lines = [f"\n### {name}: {len(texts):,} documents, {len(set(labels))} labels\n"]
    for kind in ("equal K", "own K"):
        lines += [f"| {kind} | " + " | ".join(SHOWN) + " |", "|---|" + "---:|" * len(SHOWN)]
        lines += [row(method, result[kind][method]) for method in METHODS]
        lines += ["", f"| fused less …, {kind} | AMI | NPMI |", "|---|---:|---:|"]
        by_score = result[kind]["difference"]
        for method in METHODS[:-1]:
            cells = " | ".join(interval(by_score[score][method]) for score in ("AMI", "NPMI"))
            lines.append(f"| {method} | {cells} |")
        lines.append("")
    lines += ["| coverage by agreement | " + " | ".join(f"{share:.0%}" for share in COVERAGES) + " |"]
    lines += ["|---|" + "---:|" * len(COVERAGES)]
    lines += ["| precision | " + " | ".join(f"{p:.3f}" for p in np.mean(result["coverage"], axis=0)) + " |"]
    return "\n".join(lines)


def row(method: str, scores: dict[str, list[float]]) -> str:
    return f"| {method} | " + " | ".join(cell(key, scores.get(key)) for key in SHOWN) + " |"


def interval(difference: dict[str, float]) -> str:
    return f"{difference['mean']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})"


def cell(key: str, values: list[float] | None) -> str:
    if values is None:
        return "–"
    if key in ("K", "seconds", "MB"):
        return f"{np.median(values):.0f}"
    mean, spread = np.mean(values), np.std(values)
    return f"{mean:.3f} ± {spread:.3f}" if key == "AMI" else f"{mean:.3f}"


if __name__ == "__main__":
    main()
