"""Lists of labels that topics are mapped to, each label with the words that speak for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from toremi_cli.errors import UsageError
from toremi_cli.provenance import digest
from toremi_cli.topics.config import AnnotateConfig
from toremi_cli.topics.keywords import STOP_WORDS, tokenize

DEFAULT = AnnotateConfig.taxonomy
"""The 41 main topics of Wikipedia, which the ToReMi paper labels clusters with (arXiv 2504.00695)."""
NONE = "none"
"""The fine topics stay what they are: a topic's label is its name."""


@dataclass(frozen=True)
class Label:
    """One label. `words` are single lower-case words as `tokenize` gives them."""

    name: str
    words: tuple[str, ...]
    prior: float = 1.0
    """How readily the label is given, 0 to 1: below 1 for labels so wide that nearly every text fits them."""


@dataclass(frozen=True)
class Taxonomy:
    """A named, versioned list of labels."""

    name: str
    version: str
    labels: tuple[Label, ...]

    @property
    def label_names(self) -> list[str]:
        """The labels' names, in order."""
        return [label.name for label in self.labels]

    @property
    def fingerprint(self) -> str:
        """Identifies the labels and their words."""
        return digest(self.name, self.version, [(label.name, label.words, label.prior) for label in self.labels])


def load_taxonomy(spec: str) -> Taxonomy | None:
    """The taxonomy that `spec` names: 'wikipedia41', 'none' (gives None), or a file.

    A file is JSON, either {"name", "version", "labels": [{"name", "words": […], "prior"}]} or a list of names or
    such labels; any other file has a name on each line ('#' begins a comment). A label without words of its own has
    those that `wikipedia41` holds for a label of the same name, else the words of its name.

    Raises:
        UsageError: no such file, or one that holds no list of labels.
    """
    if spec == NONE:
        return None
    if spec == DEFAULT:
        return _built_in()
    path = Path(spec)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "not UTF-8 text"
        raise UsageError(
            f"--taxonomy {spec}: {reason}; expected '{DEFAULT}', '{NONE}' or a file (JSON, or one label a line)"
        ) from None
    return _parse(text, path)


@cache
def _built_in() -> Taxonomy:
    file = resources.files("toremi_cli.topics") / "assets" / f"{DEFAULT}.json"
    value = json.loads(file.read_text(encoding="utf-8"))
    labels = tuple(Label(item["name"], tuple(item["words"]), item["prior"]) for item in value["labels"])
    return Taxonomy(value["name"], str(value["version"]), labels)


def _parse(text: str, path: Path) -> Taxonomy:
    if path.suffix.lower() == ".json":
        try:
            value = json.loads(text)
        except ValueError as problem:
            raise UsageError(f"--taxonomy {path}: not valid JSON ({problem})") from None
    else:
        lines = (line.split("#")[0].strip() for line in text.splitlines())
        value = [line for line in lines if line]
    record = value if isinstance(value, dict) else {"labels": value}
    items = record.get("labels")
    if not isinstance(items, list) or not items:
        raise UsageError(f"--taxonomy {path}: no labels in it; expected a list of names or a key 'labels' with one")
    labels = tuple(_label(item, position, path) for position, item in enumerate(items))
    names = [label.name for label in labels]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"--taxonomy {path}: label '{double}' stands in it twice; remove one")
    return Taxonomy(str(record.get("name", path.stem)), str(record.get("version", "1")), labels)


def _label(item: Any, position: int, path: Path) -> Label:
    if isinstance(item, str):
        item = {"name": item}
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"--taxonomy {path}: label {position} has no name; found {json.dumps(item)[:60]}")
    known = next((label for label in _built_in().labels if _key(label.name) == _key(name)), None)
    words = item.get("words") or (known.words if known else [name])
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"--taxonomy {path}: 'words' of label '{name}' is no list of words")
    prior = item.get("prior", known.prior if known else 1.0)
    if not isinstance(prior, int | float) or not 0 <= prior <= 1:
        raise UsageError(f"--taxonomy {path}: 'prior' of label '{name}' is {prior!r}; expected a number from 0 to 1")
    parts = [part for word in words for part in tokenize(word.replace("_", " ")) if part not in STOP_WORDS]
    return Label(name.strip(), tuple(dict.fromkeys(parts)), float(prior))


def _key(name: str) -> str:
    return name.strip().lower().replace(" ", "_")
