"""`toremi eval --tasks`: score items, and keep the numbers with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from toremi_cli import console
from toremi_cli.evaluate import metrics
from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.evaluate.intervals import intervals
from toremi_cli.evaluate.models import LoadedModel
from toremi_cli.evaluate.tasks.items import Item, Task
from toremi_cli.evaluate.tasks.likelihood import Answer, answer, encode_pairs
from toremi_cli.schemas import TASKS

BITS_PER_BYTE = "bits_per_byte"


@dataclass(frozen=True)
class TaskScore:
    """One metric of one task."""

    task: str
    metric: str
    value: float
    stderr: float
    num_items: int
    num_tokens: int
    num_bytes: int
    suite: str = TASKS

    def row(self, run: str, checkpoint: str) -> dict[str, Any]:
        """As a row of table `eval`."""
        return {
            "run": run,
            "checkpoint": checkpoint,
            "suite": self.suite,
            "domain": self.task,
            "metric": self.metric,
            "value": self.value,
            "num_tokens": self.num_tokens,
            "num_bytes": self.num_bytes,
            "num_samples": self.num_items,
            "stderr": self.stderr,
        }


def run_task(
    loaded: LoadedModel, task: Task, items: Sequence[Item], batch_tokens: int
) -> tuple[list[TaskScore], DocumentScores]:
    """All metrics of a task over its items, and the losses of their right answers.

    Besides the task's own metrics there is `bits_per_byte`: the bits that the right answers' tokens cost, given the
    questions, by the answers' bytes without the space before them. It tells models apart that are too small for their
    accuracy to be above chance.
    """
    pairs = [pair for item in items for pair in item.pairs]
    wholes = [("", whole) for item in items for whole in item.wholes]
    with console.progress(f"{task.name}: {len(items):,} items", total=len(pairs) + len(wholes), unit="texts") as bar:
        found = answer(loaded, encode_pairs(loaded.encoder, pairs), batch_tokens, bar.advance)
        means = answer(loaded, encode_pairs(loaded.encoder, wholes), batch_tokens, bar.advance) if wholes else []
    num_tokens = sum(a.num_tokens for a in found)
    num_bytes = sum(len(text.encode()) for _, text in pairs)
    counts = (len(items), num_tokens, num_bytes)
    values = {metric: _metric(metric, items, pairs, found, means) for metric in task.metrics}
    scores = [TaskScore(task.name, metric, *value, *counts) for metric, value in values.items()]
    right = _right_answers(task.name, items, pairs, found)
    bits = intervals(right)[task.name]
    counts = (len(items), int(right.num_tokens.sum()), int(right.num_bytes.sum()))
    return [*scores, TaskScore(task.name, BITS_PER_BYTE, bits.value, bits.stderr, *counts)], right


def _right_answers(
    name: str, items: Sequence[Item], pairs: Sequence[tuple[str, str]], found: Sequence[Answer]
) -> DocumentScores:
    """What each item's right answer costs, an item being a document of the source `name`."""
    begins = np.cumsum([0, *(len(item.pairs) for item in items[:-1])])
    right = [int(begin) + item.gold for begin, item in zip(begins, items, strict=True)]
    width = len(str(len(items)))
    return DocumentScores(
        np.array([name] * len(items)),
        np.array([f"{number:0{width}d}" for number in range(len(items))]),
        np.array([-found[index].log_likelihood for index in right]),
        np.array([found[index].num_tokens for index in right], dtype=np.int64),
        np.array([len(pairs[index][1].strip(" ").encode()) for index in right], dtype=np.int64),
    )


def _metric(
    metric: str,
    items: Sequence[Item],
    pairs: Sequence[tuple[str, str]],
    found: Sequence[Answer],
    means: Sequence[Answer],
) -> tuple[float, float]:
    """Value and standard error."""
    if metric == "perplexity":
        losses = np.array([-a.log_likelihood for a in found])
        value = math.exp(losses.mean())
        return value, value * _stderr(losses)
    if all(len(item.pairs) == 1 for item in items):
        right = np.array([a.is_greedy for a in found], dtype=float)
        return float(right.mean()), _stderr(right)
    scores = np.array([a.log_likelihood for a in found])
    if metric == "accuracy_norm":  # by characters of the continuation, without the space before it, as the harness does
        scores = scores / np.array([len(text.removeprefix(" ")) for _, text in pairs])
    if metric == "accuracy_mean":  # by tokens of goal and solution together (ToReMi, PIQA)
        scores = np.array([a.log_likelihood / a.num_tokens for a in means])
    gold = np.array([item.gold for item in items])
    chosen = _choices(items, scores)
    if metric == "mcc":
        return metrics.score("mcc", gold, [chosen])
    right = (gold == chosen).astype(float)
    return float(right.mean()), _stderr(right)


def _choices(items: Sequence[Item], scores: np.ndarray) -> np.ndarray:
    """(num_items,) index of each item's best pair."""
    ends = np.cumsum([len(item.pairs) for item in items])
    return np.array([int(np.argmax(part)) for part in np.split(scores, ends[:-1])])


def _stderr(values: np.ndarray) -> float:
    """Standard error of a mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
