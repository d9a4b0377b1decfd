"""Downstream tasks for several runs side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from toremi_cli.evaluate.config import EvalConfig, check_config
from toremi_cli.evaluate.models import load
from toremi_cli.evaluate.results import EVAL_FILE, SCORES_FILE, conditions_of, keep_rows, score_rows
from toremi_cli.evaluate.tasks.files import parse_tasks, read_items
from toremi_cli.evaluate.tasks.harness import PREFIX, run_harness
from toremi_cli.evaluate.tasks.run import TaskScore, run_task
from toremi_cli.evaluate.texts import EvalResult, choose_checkpoints
from toremi_cli.layout import Workdir
from toremi_cli.provenance import digest
from toremi_cli.runs.checkpoints import Checkpoint
from toremi_cli.schemas import EVAL, SCORES, TASKS


@dataclass
class TaskResult:
    """All numbers of one `toremi eval --tasks` (or --finetune): of each checkpoint, its scores."""

    suite: str = TASKS
    scores: list[tuple[str, Checkpoint, list[TaskScore]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        rows = [
            {**score.row(run, checkpoint.name), "step": checkpoint.step}
            for run, checkpoint, scores in self.scores
            for score in scores
        ]
        return {"suite": self.suite, "notes": self.notes, "results": rows}


def evaluate_tasks(config: EvalConfig, workdir: Workdir) -> TaskResult:
    """Run every task on every chosen checkpoint; a checkpoint's rows are kept as soon as they are there.

    Raises:
        UsageError: no such task, run or file.
        CorpusError: a task's file has a broken row.
        TrainingError: a run without a whole checkpoint.
    """
    check_config(config)
    wanted = [part.strip() for part in (config.tasks or "").split(",") if part.strip()]
    foreign = [part.removeprefix(PREFIX) for part in wanted if part.startswith(PREFIX)]
    own = ",".join(part for part in wanted if not part.startswith(PREFIX))
    files = parse_tasks(own, config.task_data) if own or not foreign else []
    tasks = [(task, read_items(task, path, config.limit)) for task, path in files]
    texts = EvalResult(suite=TASKS)
    chosen = choose_checkpoints(config, workdir, texts)
    result = TaskResult(notes=texts.notes)
    for run, checkpoint in chosen:
        loaded = load(run, checkpoint, workdir, config.device, config.context_length, config.precision)
        done = [run_task(loaded, task, items, config.batch_tokens) for task, items in tasks]
        scores = [score for found, _ in done for score in found]
        if foreign:
            scores += run_harness(checkpoint, loaded, foreign, config.limit, config.batch_tokens, config.task_data)
        rows = [score.row(run.name, checkpoint.name) for score in scores]
        inputs = {"tasks": digest([(t.name, len(items)) for t, items in tasks]), "checkpoint": checkpoint.name}
        names = sorted({score.task for score in scores})
        conditions = conditions_of(
            context_length=loaded.context_length, limit=config.limit, precision=config.recorded_precision
        )
        here = (checkpoint.name, TASKS, conditions)
        keep_rows(run, EVAL_FILE, EVAL, here, rows, inputs, names)
        if done:
            by_item = [row for _, right in done for row in score_rows(checkpoint.name, TASKS, right)]
            keep_rows(run, SCORES_FILE, SCORES, here, by_item, inputs, [task.name for task, _ in tasks])
        result.scores.append((run.name, checkpoint, scores))
    return result
