"""What a crawl drags in besides text: every install has some of each, in files that nobody meant to be read.

Kinds that an install lacks are left out of the corpus.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from examples.harvest_corpus.installed import (
    Document,
    Harvest,
    Source,
    distribution_files,
    package_folder,
    pieces,
    read_text,
    shuffled,
    standard_library,
)

LONGEST_FILE = 60_000
"""Characters taken of one file, so that none is a kind of its own."""
NOT_TABLES = re.compile(r"readme|licen[cs]e|requirements|top_level|entry_points|stopwords|questions", re.I)


def files_of(packages: tuple[str, ...], *endings: str) -> Iterator[tuple[str, str]]:
    """Name and text of the packages' files with these endings, unpacked where they are gzipped."""
    root = package_folder(packages[0]).parent
    found = [path for package in packages for path in package_folder(package).rglob("*")]
    found = [path for path in found if path.name.endswith(endings) and not NOT_TABLES.search(path.name)]
    for path in shuffled(found, root):
        yield path.relative_to(root).as_posix(), unpacked(path)[:LONGEST_FILE]


def unpacked(path: Path) -> str:
    """A file's text; empty where it isn't UTF-8."""
    if path.suffix != ".gz":
        return read_text(path)
    try:
        return gzip.decompress(path.read_bytes()).decode()
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError):
        return ""


def in_pieces(name: str, text: str) -> Iterator[Document]:
    """A file's pieces, with ids that say which file they are of."""
    for number, piece in enumerate(pieces(text)):
        yield f"{name}/{number}", piece


def cut_files(*packages: str, endings: tuple[str, ...]) -> Harvest:
    """Files of packages, cut into pieces."""

    def harvest() -> Iterator[Document]:
        for name, text in files_of(packages, *endings):
            yield from in_pieces(name, text)

    return harvest


def certificates() -> Iterator[Document]:
    """The roots that pip trusts, each a document: base64 that no context tells."""
    bundle = read_text(package_folder("pip") / "_vendor" / "certifi" / "cacert.pem")
    for number, part in enumerate(bundle.split("-----END CERTIFICATE-----\n")):
        if "BEGIN CERTIFICATE" in part:
            yield f"cacert.pem:{number}", f"{part.strip()}\n-----END CERTIFICATE-----"


def charmaps() -> Iterator[Document]:
    """Modules of the standard library that hold a table of characters."""
    root = standard_library() / "encodings"
    for path in shuffled(root.glob("*.py"), root):
        if "_table" in (text := read_text(path)):
            yield path.name, text.strip()


def manifests() -> Iterator[Document]:
    """Every distribution's list of its files with their hashes, as in lock files."""
    root = package_folder("pip").parent
    for path in shuffled(set(distribution_files(r"^RECORD$")), root):
        yield from in_pieces(f"{path.parent.name}/{path.name}", read_text(path)[:LONGEST_FILE])


LEFTOVERS = (
    Source("fonts", 1_200_000, cut_files("matplotlib", endings=(".afm",)), in_pieces=True),
    Source(
        "tables",
        1_200_000,
        cut_files("sklearn", "numpy", "scipy", "matplotlib", endings=(".csv", ".csv.gz", ".dat", ".txt")),
        in_pieces=True,
    ),
    Source("charmaps", 1_200_000, charmaps),
    Source("manifests", 1_200_000, manifests, in_pieces=True),
    Source(
        "data",
        500_000,
        cut_files("sklearn", "scipy", "torch", "setuptools", endings=(".json", ".json.gz", ".yaml")),
        in_pieces=True,
    ),
    Source("certificates", 300_000, certificates),
    Source(
        "web",
        300_000,
        cut_files(
            "sklearn", "torch", "matplotlib", "numba", "pandas", "sympy", endings=(".js", ".mjs", ".css", ".xsl")
        ),
        in_pieces=True,
    ),
    Source("drawings", 150_000, cut_files("matplotlib", endings=(".svg",)), in_pieces=True),
)
