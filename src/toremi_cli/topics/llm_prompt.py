"""What a language model is asked about a topic, and how its answer is read."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from toremi_cli.provenance import digest
from toremi_cli.topics.labelling import NUM_KEYWORDS
from toremi_cli.topics.taxonomy import Taxonomy

PROMPT_VERSION = 1
"""Rises when the same keywords are put to the model in other words."""
_SYSTEM = (
    "You name the topics of a text corpus. You are given the keywords of one topic, strongest first, and a list of "
    "labels. Choose the label that fits the topic best; add a second and a third only if they fit nearly as well. "
    "Prefer a label for what the texts are about over labels that fit any text. "
    'Answer with JSON only: {"labels": ["..."]}'
)


def prompt(words: Sequence[str], taxonomy: Taxonomy, seed: int, max_labels: int) -> list[dict[str, str]]:
    """The messages for one topic, with the labels in an order of its own: models favour what stands first."""
    names = taxonomy.label_names
    random.Random(digest(seed, list(words))).shuffle(names)
    asked = f"Choose 1 to {max_labels} labels." if max_labels > 1 else "Choose 1 label."
    content = f"Keywords: {', '.join(words[:NUM_KEYWORDS])}\n\nLabels: {', '.join(names)}\n\n{asked}"
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": content}]


def answer_schema(taxonomy: Taxonomy, max_labels: int) -> dict[str, Any]:
    """JSON schema of an answer: the labels are an enum."""
    items = {"type": "string", "enum": taxonomy.label_names}
    labels = {"type": "array", "items": items, "minItems": 1, "maxItems": max_labels}
    return {"type": "object", "properties": {"labels": labels}, "required": ["labels"], "additionalProperties": False}


def read_reply(reply: Any) -> tuple[str, bool]:
    """The text of a server's reply, and whether thoughts took all of it before an answer began.

    Raises:
        ValueError: no chat reply: a page, an error that came as a success.
    """
    choices = getattr(reply, "choices", None)
    if not choices:
        error = getattr(reply, "error", None)
        error = error.get("message", error) if isinstance(error, Mapping) else error
        said = reply if isinstance(reply, str) else error
        what = f"'{' '.join(str(said).split())[:80]}'" if said else "something"
        raise ValueError(f"{what} in place of a chat answer")
    message = choices[0].message
    text = message.content or ""
    if _without_thoughts(text).strip():
        return text, False
    thoughts = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if choices[0].finish_reason == "length":
        return text, True
    return text if not isinstance(thoughts, str) else thoughts, False  # all of it is taken for thoughts by some


def _without_thoughts(text: str) -> str:
    """What follows the thoughts: some begin in the prompt, some don't end."""
    return re.sub(r"<think>.*", "", re.sub(r"^.*</think>", "", text, flags=re.DOTALL), flags=re.DOTALL)


def read_answer(text: str, taxonomy: Taxonomy, max_labels: int) -> tuple[list[str], str]:
    """The valid labels in an answer, best first, and what is wrong with it ('' if nothing)."""
    value = _last_json(_without_thoughts(text))
    if value is None:
        return [], "That is not JSON."
    found = value.get("labels") if isinstance(value, Mapping) else value
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not found:
        return [], 'There is no list "labels" with a label in it.'
    names = {_plain(name): name for name in taxonomy.label_names}
    strange = [str(label) for label in found if _plain(str(label)) not in names]
    labels = list(dict.fromkeys(names[_plain(str(label))] for label in found if _plain(str(label)) in names))
    return labels[:max_labels], f"Not on the list: {', '.join(strange[:5])}." if strange else ""


def _last_json(text: str) -> Any:
    """The last object with labels in a text, else the last object or list; None if there is none."""
    decoder, found, begin = json.JSONDecoder(), None, 0
    while match := re.compile(r"[{\[]").search(text, begin):
        try:
            value, begin = decoder.raw_decode(text, match.start())
        except ValueError:
            begin = match.end()
            continue
        if not _has_labels(found) or _has_labels(value):
            found = value
    return found


def _has_labels(value: Any) -> bool:
    return isinstance(value, Mapping) and "labels" in value


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()
