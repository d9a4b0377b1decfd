"""What annotation costs beside plain Top2Vec, fitted on the whole set, and what its topics are worth.

    python benchmarks/annotate_vs_top2vec.py TEXT… --labelled ag_news.jsonl.zst [--sizes 5000 20000] [--words 300]

TEXT are JSONL files of real documents, or folders of such; documents to annotate are made of them as in
`annotate_scale.py`. Both sides run in processes of their own on one thread: `Top2Vec(documents)` with
`embedding_model="doc2vec"`, `workers=1` and its own defaults otherwise, against `toremi embed`, `cluster` and
`annotate` with theirs. On the labelled set both give as many topics as there are labels (Top2Vec by its hierarchical
reduction), and the topics are compared with the labels. Times are CPU seconds, which other users of the machine don't
slow. `--extrapolate N` adds Top2Vec's time at N documents by the power law through its two largest sizes, and ours as
measured. Exits with 1 where we are less than 5 times as fast at the largest size, or agree less with the labels.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotate_scale import STAGES, read_cost, rows_of, write_corpus

LEAST_SPEEDUP = 5.0
TOP2VEC = """
import json, sys
from pathlib import Path
from annotate_scale import files_of, rows_of
from top2vec import Top2Vec

corpus, num_topics, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
texts = [row["text"] for path in files_of(corpus) for row in rows_of(path)]
model = Top2Vec(texts, embedding_model="doc2vec", workers=1, verbose=False)
found = model.get_num_topics()
reduced = 0 < num_topics < found
if reduced:
    model.hierarchical_topic_reduction(num_topics)
topics = model.get_documents_topics(list(range(len(texts))), reduced=reduced)[0]
out.write_text(json.dumps({"num_topics": int(found), "topics": [int(topic) for topic in topics]}))
"""


def main() -> None:
    arguments = parse()
    folder = arguments.dir or Path(tempfile.mkdtemp(prefix="annotate-vs-top2vec-"))
    folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"speed": [], "labelled": []}

    def keep(kind: str, row: dict[str, Any]) -> None:
        report[kind].append(row)
        print(row, file=sys.stderr)
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1))

    for path in arguments.labelled:
        keep("labelled", compare_topics(path, folder))
    for size in sorted(arguments.sizes):
        corpus = made_corpus(folder, arguments.text, size, arguments.words)
        keep("speed", {"documents": size, "top2vec": run_top2vec(corpus, 0, folder), "ours": run_ours(corpus, folder)})
    for size in arguments.extrapolate:
        corpus = made_corpus(folder, arguments.text, size, arguments.words)
        theirs = {"cpu_seconds": power_law(report["speed"], size), "extrapolated": True}
        keep("speed", {"documents": size, "top2vec": theirs, "ours": run_ours(corpus, folder)})
    print(render(report))
    sys.exit(not holds(report))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="+", help="JSONL files of real text, or folders of such")
    parser.add_argument("--labelled", type=Path, nargs="*", default=[], help="JSONL files with `text` and `label`")
    parser.add_argument("--sizes", type=int, nargs="*", default=[5_000, 20_000])
    parser.add_argument("--extrapolate", type=int, nargs="*", default=[100_000])
    parser.add_argument("--words", type=int, default=300, help="words of a document, about; 300: a web page")
    parser.add_argument("--dir", type=Path, help="folder for corpora and tables; default: a temporary one")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    return parser.parse_args()


def made_corpus(folder: Path, texts: Sequence[Path], size: int, num_words: int) -> Path:
    corpus = folder / f"corpus-{size}"
    if not corpus.exists():  # in a process of its own: a child counts its parent's memory until it has started
        spawn = multiprocessing.get_context("spawn")
        writer = spawn.Process(target=write_corpus, args=(texts, corpus, size, num_words))
        writer.start()
        writer.join()
    return corpus


def run_top2vec(corpus: Path, num_topics: int, folder: Path) -> dict[str, Any]:
    """Top2Vec on all documents; its own number of topics, or reduced to `num_topics`."""
    out = folder / "top2vec.json"
    cost = read_cost([sys.executable, "-c", TOP2VEC, str(corpus), str(num_topics), str(out)], cwd=Path(__file__).parent)
    return {**cost, **json.loads(out.read_text())}


def run_ours(corpus: Path, folder: Path, *flags: str) -> dict[str, Any]:
    """The three stages, one after another; seconds summed, the largest memory."""
    workdir = folder / "out"
    shutil.rmtree(workdir, ignore_errors=True)
    costs = []
    for stage in STAGES:
        command = [sys.executable, "-m", "toremi_cli.cli", stage, "-w", str(workdir), "--workers", "1", "--quiet"]
        extra = {"embed": [str(corpus)], "cluster": list(flags)}.get(stage, [])
        costs.append(read_cost([*command, *extra]))
    sums = {key: sum(cost[key] for cost in costs) for key in ("wall_seconds", "cpu_seconds")}
    manifest = json.loads((workdir / "clusters" / "_manifest.json").read_text())
    return {**sums, "peak_mb": max(cost["peak_mb"] for cost in costs), "num_topics": manifest["num_topics"]}


def compare_topics(path: Path, folder: Path) -> dict[str, Any]:
    """Both on a labelled set, at as many topics as it has labels: cost, and agreement with the labels (AMI)."""
    import pyarrow.dataset as ds
    from sklearn.metrics import adjusted_mutual_info_score

    rows = [row for row in rows_of(path) if row.get("label")]
    corpus = folder / f"labelled-{path.name.split('.')[0]}"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir()
    lines = (json.dumps({"id": str(number), "text": row["text"]}) for number, row in enumerate(rows))
    (corpus / "all.jsonl").write_text("\n".join(lines) + "\n")
    num_labels = len({row["label"] for row in rows})
    theirs = run_top2vec(corpus, num_labels, folder)
    ours = run_ours(corpus, folder, "--num-topics", str(num_labels))
    table = ds.dataset(folder / "out" / "annotated").to_table(["doc_id", "topic"]).to_pydict()
    # Repeated texts are annotated once: both are judged on the texts that are left.
    ours_of = dict(zip(map(int, table["doc_id"]), table["topic"], strict=True))
    labels = [rows[number]["label"] for number in ours_of]
    theirs["ami"] = adjusted_mutual_info_score(labels, [theirs["topics"][number] for number in ours_of])
    ours["ami"] = adjusted_mutual_info_score(labels, list(ours_of.values()))
    del theirs["topics"]
    return {
        "set": path.name.split(".")[0],
        "documents": len(rows),
        "labels": num_labels,
        "top2vec": theirs,
        "ours": ours,
    }


def power_law(speed: Sequence[dict[str, Any]], size: int) -> float:
    """Top2Vec's CPU seconds at `size` documents, by the two largest sizes measured."""
    small, large = sorted(speed, key=lambda row: row["documents"])[-2:]
    seconds = [row["top2vec"]["cpu_seconds"] for row in (small, large)]
    power = math.log(seconds[1] / seconds[0]) / math.log(large["documents"] / small["documents"])
    return seconds[1] * (size / large["documents"]) ** power


def holds(report: dict[str, Any]) -> bool:
    """Whether we are fast enough at the largest measured size, and agree with the labels no less."""
    measured = [row for row in report["speed"] if "extrapolated" not in row["top2vec"]]
    fast = all(speedup(row) >= LEAST_SPEEDUP for row in measured[-1:])
    return fast and all(row["ours"]["ami"] >= row["top2vec"]["ami"] for row in report["labelled"])


def speedup(row: dict[str, Any]) -> float:
    return row["top2vec"]["cpu_seconds"] / row["ours"]["cpu_seconds"]


def render(report: dict[str, Any]) -> str:
    lines = [
        "| documents | Top2Vec CPU s | ours CPU s | times faster | Top2Vec peak MB | ours |",
        "|---:|" + "---:|" * 5,
    ]
    for row in report["speed"]:
        theirs, ours = row["top2vec"], row["ours"]
        seconds = f"{theirs['cpu_seconds']:,.0f}" + (" (extrapolated)" if "extrapolated" in theirs else "")
        memory = f"{theirs['peak_mb']:,.0f}" if "peak_mb" in theirs else "–"
        cells = [f"{row['documents']:,}", seconds, f"{ours['cpu_seconds']:,.0f}", f"{speedup(row):.1f}", memory]
        lines.append(f"| {' | '.join(cells)} | {ours['peak_mb']:,.0f} |")
    lines += ["", "| set | documents | topics | AMI Top2Vec | AMI ours | Top2Vec CPU s | ours CPU s |"]
    lines += ["|---|" + "---:|" * 6]
    for row in report["labelled"]:
        cells = [row["set"], f"{row['documents']:,}", str(row["labels"])]
        cells += [f"{row[who]['ami']:.3f}" for who in ("top2vec", "ours")]
        cells += [f"{row[who]['cpu_seconds']:,.0f}" for who in ("top2vec", "ours")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
