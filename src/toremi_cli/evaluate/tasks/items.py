"""What a task asks: contexts with continuations to choose from, made from a row of its data.

The prompts are those of lm-evaluation-harness (EleutherAI, version 0.4), so that numbers can be compared with published
ones. Rows have the fields of the hub's data sets, or are ready-made (`query`, `choices`, `gold`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


class FieldError(ValueError):
    """A row that lacks a field or holds something unexpected; its text says what."""


@dataclass(frozen=True)
class Item:
    """One question: log-likelihoods of pairs (context, continuation) are compared, the largest is the answer."""

    pairs: tuple[tuple[str, str], ...]
    gold: int
    """Index of the right pair; 0 where there is only one (LAMBADA)."""
    wholes: tuple[str, ...] = ()
    """Texts whose mean log-likelihood the paper compares instead (PIQA)."""


@dataclass(frozen=True)
class Task:
    """A task: where its data is likely to be, how a row becomes an item, how items are scored."""

    name: str
    files: tuple[str, ...]
    """Words that its file's name has, in order of preference of the files."""
    make: Callable[[Mapping[str, Any]], Item]
    metrics: tuple[str, ...] = ("accuracy",)


def field(row: Mapping[str, Any], name: str) -> Any:
    """A field of a row.

    Raises:
        FieldError: it isn't there.
    """
    if row.get(name) is None:
        raise FieldError(f"no field '{name}' (found {', '.join(map(str, row)) or 'no fields'})")
    return row[name]


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A text field of a row."""
    value = field(row, name)
    if not isinstance(value, str):
        raise FieldError(f"field '{name}' holds {type(value).__name__}, expected text")
    return value


def index_of(value: Any, count: int, name: str) -> int:
    """A choice's index: 1, '1', True; checked against the number of choices."""
    try:
        index = int(value)
    except (TypeError, ValueError, OverflowError):
        index = -1
    if not 0 <= index < count or (isinstance(value, float) and value != index):
        raise FieldError(f"field '{name}' holds {value!r}, expected a choice from 0 to {count - 1}")
    return index


def choice_item(context: str, choices: list[str], gold: int, wholes: tuple[str, ...] = ()) -> Item:
    """One context, several continuations."""
    return Item(tuple((context, f" {choice}") for choice in choices), gold, wholes)


def ready_made(row: Mapping[str, Any]) -> Item | None:
    """The item of a row that comes with `query`, `choices` and `gold`."""
    if "query" not in row or not isinstance(row.get("choices"), list):
        return None
    choices = [str(choice) for choice in row["choices"]]
    return choice_item(text_of(row, "query"), choices, index_of(field(row, "gold"), len(choices), "gold"))


def piqa(row: Mapping[str, Any]) -> Item:
    """Goal and two solutions."""
    goal, solutions = text_of(row, "goal"), [text_of(row, "sol1"), text_of(row, "sol2")]
    gold = index_of(field(row, "label"), 2, "label")
    wholes = tuple(f"{goal} {solution}" for solution in solutions)
    return choice_item(f"Question: {goal}\nAnswer:", solutions, gold, wholes)


def sciq(row: Mapping[str, Any]) -> Item:
    """Support, question, three distractors and the answer."""
    support = str(row.get("support") or "").lstrip()
    choices = [text_of(row, n) for n in ("distractor1", "distractor2", "distractor3", "correct_answer")]
    return choice_item(f"{support}\nQuestion: {text_of(row, 'question')}\nAnswer:", choices, 3)


def labelled_choices(row: Mapping[str, Any]) -> tuple[list[str], int]:
    """`choices` with `text` and `label`, and `answerKey`."""
    choices = field(row, "choices")
    if not isinstance(choices, Mapping) or "text" not in choices or "label" not in choices:
        raise FieldError("field 'choices' needs 'text' and 'label'")
    key, labels = field(row, "answerKey"), list(choices["label"])
    if key not in labels:
        raise FieldError(f"field 'answerKey' holds {key!r}, expected one of {', '.join(map(str, labels))}")
    return list(choices["text"]), labels.index(key)


def arc(row: Mapping[str, Any]) -> Item:
    """A science question with labelled choices."""
    if (item := ready_made(row)) is not None:
        return item
    choices, gold = labelled_choices(row)
    return choice_item(f"Question: {text_of(row, 'question')}\nAnswer:", choices, gold)


def openbookqa(row: Mapping[str, Any]) -> Item:
    """A stem with labelled choices."""
    if (item := ready_made(row)) is not None:
        return item
    choices, gold = labelled_choices(row)
    return choice_item(text_of(row, "question_stem"), choices, gold)


def hellaswag(row: Mapping[str, Any]) -> Item:
    """A context and four endings; raw rows are cleaned as the harness does."""
    if (item := ready_made(row)) is not None:
        return item
    context = f"{text_of(row, 'ctx_a')} {text_of(row, 'ctx_b').capitalize()}"
    endings = [_clean(str(ending)) for ending in field(row, "endings")]
    query = _clean(f"{text_of(row, 'activity_label')}: {context}")
    return choice_item(query, endings, index_of(field(row, "label"), len(endings), "label"))


def _clean(text: str) -> str:
    import re

    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def boolq(row: Mapping[str, Any]) -> Item:
    """A passage and a question with yes or no."""
    gold = row["label"] if "label" in row else field(row, "answer")
    prompt = f"{text_of(row, 'passage')}\nQuestion: {text_of(row, 'question')}?\nAnswer:"
    return choice_item(prompt, ["no", "yes"], index_of(gold, 2, "answer"))


def winogrande(row: Mapping[str, Any]) -> Item:
    """A sentence with a gap: how likely is the rest, after each of the two names."""
    before, gap, after = text_of(row, "sentence").partition("_")
    if not gap:
        raise FieldError("field 'sentence' has no gap '_'")
    contexts = [before + text_of(row, name) for name in ("option1", "option2")]
    gold = index_of(field(row, "answer"), 3, "answer") - 1
    if gold < 0:
        raise FieldError("field 'answer' holds 0, expected 1 or 2")
    return Item(tuple((context, f" {after.strip()}") for context in contexts), gold)


def copa(row: Mapping[str, Any]) -> Item:
    """A premise with a cause or an effect."""
    joiner = {"cause": "because", "effect": "therefore"}.get(text_of(row, "question"))
    if joiner is None:
        raise FieldError(f"field 'question' holds {row['question']!r}, expected cause or effect")
    choices = [text_of(row, name) for name in ("choice1", "choice2")]
    # The harness has a space of its own before each of these choices: two in all, and the numbers shall be the same.
    lowered = [f" {choice[:1].lower()}{choice[1:]}" for choice in choices]
    context = f"{text_of(row, 'premise').strip()[:-1]} {joiner}"
    return choice_item(context, lowered, index_of(field(row, "label"), 2, "label"))


def lambada(row: Mapping[str, Any]) -> Item:
    """A passage whose last word is to be predicted."""
    context, space, word = text_of(row, "text").rstrip().rpartition(" ")
    if not space:
        raise FieldError("field 'text' has a single word")
    return Item(((context, f" {word}"),), 0)


def cola(row: Mapping[str, Any]) -> Item:
    """Whether a sentence is acceptable."""
    prompt = f"{text_of(row, 'sentence')}\nQuestion: Does this sentence make sense?\nAnswer:"
    return choice_item(prompt, ["no", "yes"], index_of(field(row, "label"), 2, "label"))


def sst2(row: Mapping[str, Any]) -> Item:
    """Whether a review is positive."""
    prompt = f"{text_of(row, 'sentence')}\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return choice_item(prompt, ["negative", "positive"], index_of(field(row, "label"), 2, "label"))


NORMED = ("accuracy", "accuracy_norm")
TASKS = {
    task.name: task
    for task in (
        Task("piqa", ("piqa",), piqa, (*NORMED, "accuracy_mean")),
        Task("sciq", ("sciq",), sciq, NORMED),
        Task("arc_easy", ("arc-easy", "arc_easy"), arc, NORMED),
        Task("arc_challenge", ("arc-challenge", "arc_challenge"), arc, NORMED),
        Task("openbookqa", ("openbookqa",), openbookqa, NORMED),
        Task("hellaswag", ("hellaswag",), hellaswag, NORMED),
        Task("boolq", ("boolq",), boolq),
        Task("winogrande", ("winogrande",), winogrande),
        Task("copa", ("copa",), copa),
        Task("lambada", ("lambada_test.", "lambada_openai", "lambada"), lambada, ("accuracy", "perplexity")),
        Task("cola", ("cola",), cola, ("mcc",)),
        Task("sst2", ("sst2", "sst-2"), sst2),
    )
}
