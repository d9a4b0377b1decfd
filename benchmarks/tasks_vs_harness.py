"""Are our task numbers those of lm-evaluation-harness? Both run on the same checkpoint and the same local rows.

    python benchmarks/tasks_vs_harness.py CHECKPOINT --data FOLDER --limit 100

needs `pip install 'toremi[tasks]'`. No hub: the harness's own task definitions are pointed at the local files.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from toremi_cli.evaluate.models import load
from toremi_cli.evaluate.runs import Checkpoint, Run
from toremi_cli.evaluate.tasks.files import _lines, parse_tasks, read_items
from toremi_cli.evaluate.tasks.harness import run_harness
from toremi_cli.evaluate.tasks.run import run_task
from toremi_cli.layout import Workdir

DEFINITIONS = {
    "piqa": "piqa/piqa.yaml",
    "sciq": "sciq/sciq.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "winogrande": "winogrande/default.yaml",
    "copa": "super_glue/copa/default.yaml",
    "lambada": "lambada/lambada_openai.yaml",
    "cola": "glue/cola/default.yaml",
    "sst2": "glue/sst2/default.yaml",
}
OURS = {"acc": "accuracy", "acc_norm": "accuracy_norm", "perplexity": "perplexity", "mcc": "mcc"}
HUB_KEYS = ("dataset_name", "training_split", "validation_split", "test_split", "fewshot_split", "group", "tag")


def local_definition(task: str, file: Path) -> dict:
    import lm_eval

    try:
        from lm_eval.tasks._yaml_loader import load_yaml
    except ImportError:  # older than 0.4.10
        from lm_eval.utils import load_yaml_config

        def load_yaml(path: Path) -> dict:
            return load_yaml_config(yaml_path=str(path))

    path = Path(lm_eval.__file__).parent / "tasks" / DEFINITIONS[task]
    config = {k: v for k, v in load_yaml(path).items() if k not in HUB_KEYS}
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"validation": str(file)}}}
    return {**config, **data, "task": task, "validation_split": "validation"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/toremi-harness"))
    arguments = parser.parse_args()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    folder = arguments.checkpoint
    checkpoint = Checkpoint(folder.name, folder, 0)
    loaded = load(Run(folder.name, folder), checkpoint, Workdir(folder.parent))
    print(f"{'task':<14}{'metric':<12}{'harness':>14}{'ours':>14}")
    for name in DEFINITIONS:
        ((task, path),) = parse_tasks(name, arguments.data)
        rows = [json.loads(line) for line, _ in zip(_lines(path), range(arguments.limit), strict=False)]
        if name == "boolq":
            rows = [{**row, "label": int(row["answer"])} for row in rows]
        file = arguments.scratch / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        ours = {s.metric: s.value for s in run_task(loaded, task, read_items(task, path, arguments.limit), 16384)}
        for score in run_harness(checkpoint, loaded, [local_definition(name, file)], 0, 4096):
            print(f"{name:<14}{score.metric:<12}{score.value:>14.6g}{ours[OURS[score.metric]]:>14.6g}")


if __name__ == "__main__":
    main()
