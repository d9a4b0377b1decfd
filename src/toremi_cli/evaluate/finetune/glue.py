"""The nine tasks of GLUE (Wang et al. 2018, arXiv 1804.07461): the fields of their rows, and how they are scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toremi_cli.evaluate.tasks.items import FieldError, field, index_of, text_of


@dataclass(frozen=True)
class Example:
    """One row: a text or a pair of texts, and the class (or, for STS-B, the similarity from 0 to 5)."""

    texts: tuple[str, ...]
    label: float


@dataclass(frozen=True)
class GlueTask:
    """One task; its rows have the fields of the hub's data set nyu-mll/glue."""

    name: str
    fields: tuple[str, ...]
    """One text, or two that belong together."""
    num_labels: int = 2
    """Classes; 1: a number is predicted."""
    metrics: tuple[str, ...] = ("accuracy",)
    evaluations: tuple[str, ...] = ("",)
    """Parts of the validation split that are scored apart, as their files are named; '': there is one."""

    @property
    def is_regression(self) -> bool:
        """Whether a number is predicted rather than a class."""
        return self.num_labels == 1

    def example(self, row: Mapping[str, Any]) -> Example:
        """A row as an example.

        Raises:
            FieldError: a field is missing or holds something unexpected.
        """
        texts = tuple(text_of(row, name) for name in self.fields)
        label = field(row, "label")
        if not self.is_regression:
            return Example(texts, index_of(label, self.num_labels, "label"))
        try:
            number = float(label)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number <= 5:
            raise FieldError(f"field 'label' holds {label!r}, expected a similarity from 0 to 5")
        return Example(texts, number)


PAIR = ("sentence1", "sentence2")
GLUE = {
    task.name: task
    for task in (
        GlueTask("cola", ("sentence",), metrics=("mcc",)),
        GlueTask("sst2", ("sentence",)),
        GlueTask("mrpc", PAIR, metrics=("accuracy", "f1")),
        GlueTask("stsb", PAIR, num_labels=1, metrics=("pearson", "spearman")),
        GlueTask("qqp", ("question1", "question2"), metrics=("accuracy", "f1")),
        GlueTask("mnli", ("premise", "hypothesis"), num_labels=3, evaluations=("matched", "mismatched")),
        GlueTask("qnli", ("question", "sentence")),
        GlueTask("rte", PAIR),
        GlueTask("wnli", PAIR),
    )
}
