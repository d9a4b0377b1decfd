"""Are our task numbers those of lm-evaluation-harness? Both run on the same checkpoint and the same local rows.

    python benchmarks/tasks_vs_harness.py CHECKPOINT --data FOLDER --limit 100

needs `pip install 'toremi[tasks]'`. No hub: the harness's own task definitions are pointed at the local files.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import islice
from pathlib import Path

import lm_eval

from toremi_cli.errors import UsageError
from toremi_cli.evaluate.models import load
from toremi_cli.evaluate.rows import rows_of
from toremi_cli.evaluate.tasks.files import parse_tasks, read_items
from toremi_cli.evaluate.tasks.harness import PREFIX, run_harness
from toremi_cli.evaluate.tasks.items import TASKS
from toremi_cli.evaluate.tasks.run import run_task
from toremi_cli.layout import Workdir
from toremi_cli.runs.checkpoints import Checkpoint
from toremi_cli.runs.run import Run

DEFINITIONS = {
    "piqa": "piqa/piqa.yaml",
    "sciq": "sciq/sciq.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "winogrande": "winogrande/default.yaml",
    "copa": "super_glue/copa/default.yaml",
    "lambada": "lambada/lambada_openai.yaml",
    "cola": "glue/cola/default.yaml",
    "sst2": "glue/sst2/default.yaml",
}
OURS = {"acc": "accuracy", "acc_norm": "accuracy_norm", "perplexity": "perplexity", "mcc": "mcc"}


def write_definition(folder: Path, task: str, file: Path, *more: str) -> str:
    """Have the harness's definition of a task read a local file of rows; its name."""
    lines = (
        f"include: {Path(lm_eval.__file__).parent / 'tasks' / DEFINITIONS[task]}",
        f"task: local_{task}",
        "dataset_path: json",
        "dataset_name: null",
        f"dataset_kwargs: {{data_files: {{validation: {file}}}}}",
        *("training_split: null", "validation_split: validation", "test_split: null", "tag: null"),
        *more,
    )
    (folder / f"local_{task}.yaml").write_text("\n".join(lines))
    return f"local_{task}"


def copy_task(folder: Path, task: str, source: str, limit: int) -> str:
    """Write a task's first local rows and their definition; its name."""
    rows = [row for _, row in islice(rows_of(source), limit or None)]
    if task == "boolq":
        rows = [{**row, "label": int(row["answer"])} for row in rows]
    file = folder / f"{task}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if "query" in rows[0] and "gold" in rows[0]:  # rows that are formatted already
        formatted = "process_docs: null", 'doc_to_text: "{{query}}"', "doc_to_target: gold", "doc_to_choice: choices"
        return write_definition(folder, task, file, *formatted)
    return write_definition(folder, task, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(arguments.checkpoint, arguments.data, arguments.limit, Path(scratch))


def compare(folder: Path, data: str, limit: int, scratch: Path) -> None:
    """Print the numbers of both for every task of which there are rows."""
    checkpoint = Checkpoint(folder.name, folder, 0)
    loaded = load(Run(folder.name, folder), checkpoint, Workdir(folder.parent))
    ours, names, seconds = {}, [], 0.0
    for name in DEFINITIONS:
        try:
            ((task, file),) = parse_tasks(name, data)
        except UsageError as problem:
            print(problem)
            continue
        names.append(copy_task(scratch, name, file, limit))
        begin = time.perf_counter()
        scores, _ = run_task(loaded, TASKS[task.name], read_items(task, file, limit), 16384)
        seconds += time.perf_counter() - begin
        ours |= {(name, score.metric): score.value for score in scores}
    begin = time.perf_counter()
    theirs = run_harness(checkpoint, loaded, names, 0, 16384, str(scratch))
    print(f"ours: {seconds:.0f} s, harness: {time.perf_counter() - begin:.0f} s")
    print(f"{'task':<14}{'metric':<12}{'harness':>14}{'ours':>14}")
    for score in theirs:
        name = score.task.removeprefix(f"{PREFIX}local_")
        print(f"{name:<14}{score.metric:<12}{score.value:>14.6g}{ours[name, OURS[score.metric]]:>14.6g}")


if __name__ == "__main__":
    main()
