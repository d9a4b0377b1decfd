"""Finding the files of an installation, and cutting long ones; always in the same order."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Document = tuple[str, str]
"""An id and a text. Of a piece (see `Source.in_pieces`) the id ends with '/' and its number."""
PIECE_CHARACTERS = 4000


class Harvest(Protocol):
    """What finds a source's documents."""

    def __call__(self) -> Iterator[Document]: ...


@dataclass(frozen=True)
class Source:
    """A domain of the corpus; `most_bytes` keeps it to a realistic share."""

    name: str
    most_bytes: int
    documents: Harvest
    in_pieces: bool = False
    """Whether documents are pieces: sections of an article, docstrings of a module, parts of a licence."""


def package_folder(name: str) -> Path:
    """Where an installed package stands; it is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"harvest_corpus: package {name} is not installed; run `make install` first")
    return Path(spec.origin).parent


def standard_library() -> Path:
    """The folder of Python's own modules."""
    return Path(sysconfig.get_paths()["stdlib"])


def shuffled(paths: Iterable[Path], root: Path) -> list[Path]:
    """Paths in an order that depends only on their names, so that a cap takes a cross-section."""
    return sorted(paths, key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())


def distribution_files(pattern: str) -> Iterator[Path]:
    """Files inside the installed distributions' metadata folders."""
    for distribution in sorted(importlib.metadata.distributions(), key=lambda d: str(d.metadata["Name"]).lower()):
        for file in distribution.files or []:
            if ".dist-info" in file.parts[0] and re.search(pattern, file.name, re.I):
                yield Path(str(distribution.locate_file(file)))


def read_text(path: Path) -> str:
    """A text file's contents, empty where it isn't UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return ""


def pieces(text: str, separator: str = "\n", most: int = PIECE_CHARACTERS) -> list[str]:
    """A text cut at separators into pieces of some `most` characters."""
    found = [""]
    for part in text.split(separator):
        if len(found[-1]) > most:
            found.append("")
        found[-1] += part + separator
    return [piece.strip() for piece in found]
