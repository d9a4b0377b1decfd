"""`toremi eval --finetune`: GLUE tasks for several runs side by side."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from toremi_cli import console
from toremi_cli.evaluate import metrics
from toremi_cli.evaluate.config import EvalConfig, FinetuneSettings, check_config
from toremi_cli.evaluate.finetune.data import GlueData, parse_glue, read_glue
from toremi_cli.evaluate.finetune.encode import encode_examples
from toremi_cli.evaluate.finetune.glue import Example
from toremi_cli.evaluate.finetune.train import Encoded, finetune
from toremi_cli.evaluate.models import LoadedModel, load
from toremi_cli.evaluate.results import EVAL_FILE, conditions_of, keep_rows
from toremi_cli.evaluate.tasks.of_runs import TaskResult
from toremi_cli.evaluate.tasks.run import TaskScore
from toremi_cli.evaluate.texts import EvalResult, choose_checkpoints
from toremi_cli.layout import Workdir
from toremi_cli.provenance import digest
from toremi_cli.runs.checkpoints import Checkpoint
from toremi_cli.schemas import EVAL, GLUE


def evaluate_glue(config: EvalConfig, settings: FinetuneSettings, workdir: Workdir) -> TaskResult:
    """Fine-tune every chosen checkpoint on every task; a task's rows are kept as soon as they are there.

    Raises:
        UsageError: no such task, run or file.
        CorpusError: a task's file has a broken row.
        TrainingError: a run without a whole checkpoint, or a fine-tuning that diverges.
    """
    check_config(config)
    tasks = [read_glue(task, config.task_data, config.limit) for task in parse_glue(config.finetune or "")]
    texts = EvalResult(suite=GLUE)
    chosen = choose_checkpoints(config, workdir, texts)
    result = TaskResult(suite=GLUE, notes=texts.notes)
    for run, checkpoint in chosen:
        loaded = load(run, checkpoint, workdir, config.device, config.context_length)
        found = []
        for data in tasks:
            scores = _run_task(loaded, checkpoint, data, settings, f"{run.name} {data.task.name}")
            inputs = {
                "examples": data.fingerprint,
                "settings": digest(asdict(settings)),
                "checkpoint": checkpoint.name,
            }
            rows = [score.row(run.name, checkpoint.name) for score in scores]
            here = (checkpoint.name, GLUE, conditions_of(**asdict(settings), limit=config.limit))
            keep_rows(run, EVAL_FILE, EVAL, here, rows, inputs, sorted(data.evaluations))
            found += scores
        result.scores.append((run.name, checkpoint, found))
    return result


def _run_task(
    loaded: LoadedModel, checkpoint: Checkpoint, data: GlueData, settings: FinetuneSettings, title: str
) -> list[TaskScore]:
    """All metrics of a task, over all seeds."""
    max_length = min(settings.max_length, loaded.context_length)

    def encoded(examples: list[Example]) -> Encoded:
        labels = np.array([example.label for example in examples], dtype=float)
        return Encoded(encode_examples(loaded.encoder, examples, max_length), labels)

    train, parts = encoded(data.train), [encoded(examples) for examples in data.evaluations.values()]
    total = settings.num_seeds * settings.epochs * len(train.ids)
    predictions = []
    with console.progress(f"{title}: fine-tuning", total=total, unit="examples") as bar:
        for seed in range(settings.num_seeds):
            predictions.append(
                finetune(
                    checkpoint.folder,
                    train,
                    parts,
                    num_labels=data.task.num_labels,
                    pad_id=loaded.encoder.eos_id,
                    settings=settings,
                    seed=seed,
                    device=loaded.device,
                    on_progress=bar.advance,
                )
            )
    found = []
    for index, (name, examples) in enumerate(data.evaluations.items()):
        num_bytes = sum(len(text.encode()) for example in examples for text in example.texts)
        counts = (len(examples), sum(map(len, parts[index].ids)), num_bytes)
        for metric in data.task.metrics:
            value = metrics.score(metric, parts[index].labels, [seed[index] for seed in predictions])
            found.append(TaskScore(name, metric, *value, *counts, suite=GLUE))
    return found
