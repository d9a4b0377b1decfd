"""lm-evaluation-harness's own registry of tasks on our checkpoints; its data comes from the hub."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from toremi_cli.errors import MissingExtraError, UsageError
from toremi_cli.evaluate.models import LoadedModel
from toremi_cli.evaluate.runs import Checkpoint
from toremi_cli.evaluate.tasks.run import TaskScore

PREFIX = "harness:"


def run_harness(
    checkpoint: Checkpoint, loaded: LoadedModel, names: Sequence[str | dict[str, Any]], limit: int, batch_tokens: int
) -> list[TaskScore]:
    """Run tasks of the harness, by name or as its configurations.

    Raises:
        MissingExtraError: the harness is not installed.
        UsageError: it doesn't know a task.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        raise MissingExtraError("lm-eval", "tasks", f"--tasks {PREFIX}NAME") from None
    batch_size = max(batch_tokens // loaded.context_length, 1)
    model = HFLM(
        pretrained=loaded.model,
        tokenizer=str(checkpoint.folder),
        max_length=loaded.context_length,
        batch_size=batch_size,
        device=str(loaded.device),
    )
    try:
        found = lm_eval.simple_evaluate(
            model=model, tasks=list(names), limit=limit or None, log_samples=False, bootstrap_iters=1000
        )
    except (KeyError, ValueError) as problem:
        raise UsageError(f"--tasks: lm-evaluation-harness says: {' '.join(str(problem).split())[:200]}") from None
    return [score for task, values in found["results"].items() for score in _scores(task, values, found)]


def _scores(task: str, values: dict[str, Any], found: dict[str, Any]) -> list[TaskScore]:
    """'acc,none' with 'acc_stderr,none' as scores; its names are kept, so that they aren't taken for ours."""
    num_items = int(found.get("n-samples", {}).get(task, {}).get("effective", 0))
    scores = []
    for key, value in values.items():
        metric, _, kind = key.partition(",")
        if isinstance(value, int | float) and kind and not metric.endswith("_stderr"):
            stderr = values.get(f"{metric}_stderr,{kind}")
            error = float(stderr) if isinstance(stderr, int | float) else math.nan
            scores.append(TaskScore(PREFIX + task, metric, float(value), error, num_items, 0, 0))
    return scores
