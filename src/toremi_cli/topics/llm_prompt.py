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


def read_answer(text: str, taxonomy: Taxonomy, max_labels: int) -> tuple[list[str], str]:
    """The valid labels in an answer, best first, and what is wrong with it ('' if nothing)."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    block = re.search(r"\{.*\}|\[.*\]", text, re.DOTALL)
    try:
        value = json.loads(block.group() if block else text)
    except ValueError:
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


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()
