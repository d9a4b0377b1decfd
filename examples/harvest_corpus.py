"""Harvest a demo corpus of real text from what an install of toremi already holds; no network.

Encyclopaedia articles, news and newsgroup posts (gensim's test data), Python's manual, documentation of numerical and
of machine-learning libraries (their docstrings), source code of the standard library, C++ headers, licences and package
pages: unevenly sized, as corpora are.

    python examples/harvest_corpus.py demo-out/corpus

writes one JSONL file a source (fields id, source, group, text; a group is what a document is a piece of). The same
install gives the same files.
"""

from __future__ import annotations

import argparse
import ast
import bz2
import hashlib
import importlib.metadata
import importlib.util
import json
import pickletools
import re
import sysconfig
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Document = tuple[str, str]
"""An id and a text. Of a piece (see `Source.in_pieces`) the id ends with '/' and its number."""
SHORTEST_CHARACTERS = 200


def package_folder(name: str) -> Path:
    """Where an installed package stands; it is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"harvest_corpus.py: package {name} is not installed; run `make install` first")
    return Path(spec.origin).parent


def shuffled(paths: Iterable[Path], root: Path) -> list[Path]:
    """Paths in an order that depends only on their names, so that a cap takes a cross-section."""
    return sorted(paths, key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())


def read_text(path: Path) -> str:
    """A text file's contents, empty where it isn't UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return ""


def gensim_data(name: str) -> Path:
    """A file of gensim's test data."""
    return package_folder("gensim") / "test" / "test_data" / name


def news() -> Iterator[Document]:
    """Articles of the Australian Broadcasting Commission, 2001 (the Lee corpus)."""
    for name in ("lee_background.cor", "lee.cor"):
        for number, line in enumerate(read_text(gensim_data(name)).splitlines()):
            yield f"{name}/{number}", line.strip()


def encyclopaedia() -> Iterator[Document]:
    """Sections of English Wikipedia articles."""
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    dump = gensim_data("enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2")
    with bz2.open(dump, "rb") as file:
        for title, markup, _ in extract_pages(file, ("0",)):
            if markup.lstrip().lower().startswith("#redirect"):
                continue
            text = filter_wiki(markup, promote_remaining=True, simplify_links=True)
            for number, section in enumerate(re.split(r"\n(?===[^=])", text)):
                if not re.match(r"==\s*(References|External|See also|Further|Notes|Bibliography)", section, re.I):
                    yield f"{title}/{number}", tidy_wikitext(section)


def tidy_wikitext(text: str) -> str:
    """Prose out of what is left when templates and links are gone."""
    text = text.replace("'''", "").replace("''", "")
    text = re.sub(r"^=+\s*(.*?)\s*=+\s*$", r"\1\n", text, flags=re.M)
    text = re.sub(r"\(\s*[;,]?\s*\)", "", text)
    lines = [line.strip() for line in text.splitlines()]
    kept = [
        line for line in lines if not re.fullmatch(r"[*:;#|!{}\s.–-]*", line) and not line.startswith(("|", "{|", "!"))
    ]
    return "\n".join(kept)


def newsgroups() -> Iterator[Document]:
    """Posts of 20 Newsgroups. The file is a compressed pickle: its strings are read, nothing in it is run."""
    stream = zlib.decompress(gensim_data("mini_newsgroup").read_bytes())
    strings = (value for _, value, _ in pickletools.genops(stream) if isinstance(value, str))
    for number, text in enumerate(strings):
        yield f"post/{number}", text.strip()


def python_manual() -> Iterator[Document]:
    """The language reference that `help()` shows."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield name, topics[name].strip()


def docstrings(*packages: str) -> Callable[[], Iterator[Document]]:
    """Docstrings of packages, found by parsing their files; tests and vendored copies left out."""

    def harvest() -> Iterator[Document]:
        root = package_folder(packages[0]).parent
        paths = [path for package in packages for path in (root / package).rglob("*.py")]
        for path in shuffled(paths, root):
            name = path.relative_to(root).with_suffix("").as_posix()
            if not re.search(r"/(tests?|_?vendor(ed)?|externals)/", name):
                yield from docstrings_of(path, name)

    return harvest


def docstrings_of(path: Path, name: str) -> Iterator[Document]:
    """The docstrings in one file."""
    try:
        tree = ast.parse(read_text(path))
    except (SyntaxError, ValueError):
        return
    for number, node in enumerate(ast.walk(tree)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            yield f"{name}/{number}", text


def python_code() -> Iterator[Document]:
    """Modules of the standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    left_out = {"site-packages", "dist-packages", "test", "tests", "encodings", "pydoc_data", "lib2to3", "idlelib"}
    paths = [p for p in root.rglob("*.py") if not left_out & {*p.relative_to(root).parts[:-1]}]
    for path in shuffled(paths, root):
        yield path.relative_to(root).as_posix(), read_text(path).strip()


def cpp_headers() -> Iterator[Document]:
    """C++ headers that torch ships."""
    root = package_folder("torch") / "include"
    for path in shuffled([*root.rglob("*.h"), *root.rglob("*.hpp")], root):
        text = read_text(path)
        if "ops/" not in path.as_posix():  # thousands of generated files of ten lines
            yield path.relative_to(root).as_posix(), text.strip()


def distribution_files(pattern: str) -> Iterator[Path]:
    """Files inside the installed distributions' metadata folders."""
    for distribution in sorted(importlib.metadata.distributions(), key=lambda d: str(d.metadata["Name"]).lower()):
        for file in distribution.files or []:
            if ".dist-info" in file.parts[0] and re.search(pattern, file.name, re.I):
                yield Path(str(distribution.locate_file(file)))


def licences() -> Iterator[Document]:
    """Licence texts of the installed packages, cut at blank lines into pieces of some 4,000 characters."""
    for path in distribution_files(r"licen[cs]e|copying|notice"):
        pieces = [""]
        for paragraph in read_text(path).split("\n\n"):
            if len(pieces[-1]) > 4000:
                pieces.append("")
            pieces[-1] += paragraph + "\n\n"
        within = next(i for i, part in enumerate(path.parts) if part.endswith(".dist-info"))
        for number, piece in enumerate(pieces):
            yield f"{'/'.join(path.parts[within:])}/{number}", piece.strip()


def package_pages() -> Iterator[Document]:
    """What the installed packages say of themselves on their index page."""
    for path in distribution_files(r"^METADATA$"):
        _, _, description = read_text(path).partition("\n\n")
        yield path.parent.name, description.strip()


@dataclass(frozen=True)
class Source:
    """A domain of the corpus; `most_bytes` keeps it to a realistic share."""

    name: str
    most_bytes: int
    documents: Callable[[], Iterator[Document]]
    in_pieces: bool = False
    """Whether documents are pieces: sections of an article, docstrings of a module, parts of a licence."""


SOURCES = (
    Source("encyclopaedia", 3_500_000, encyclopaedia, in_pieces=True),
    Source("python_code", 2_500_000, python_code),
    Source("numeric_docs", 1_800_000, docstrings("numpy", "scipy"), in_pieces=True),
    Source("learning_docs", 1_500_000, docstrings("torch", "sklearn", "transformers"), in_pieces=True),
    Source("cpp_headers", 1_000_000, cpp_headers),
    Source("licences", 700_000, licences, in_pieces=True),
    Source("package_pages", 500_000, package_pages),
    Source("python_manual", 450_000, python_manual),
    Source("newsgroups", 450_000, newsgroups),
    Source("news", 400_000, news),
)


def write_source(source: Source, folder: Path) -> tuple[int, int]:
    """Write one JSONL file; return its numbers of documents and of bytes of text."""
    seen: set[str] = set()
    num_bytes = 0
    temporary = folder / f".{source.name}.tmp"
    with temporary.open("w", encoding="utf-8") as file:
        for name, text in source.documents():
            if len(text) < SHORTEST_CHARACTERS or text in seen:
                continue
            size = len(text.encode())
            if num_bytes > 0.97 * source.most_bytes:
                break
            if num_bytes + size > source.most_bytes:
                continue
            seen.add(text)
            num_bytes += size
            identifier = f"{source.name}/{name}"
            group = identifier.rpartition("/")[0] if source.in_pieces else identifier
            row = {"id": identifier, "source": source.name, "group": group, "text": text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    temporary.replace(folder / f"{source.name}.jsonl")
    return len(seen), num_bytes


def main() -> None:
    """Write the corpus and print what it holds."""
    parser = argparse.ArgumentParser(description="Harvest a demo corpus of real text from the installed packages.")
    parser.add_argument("folder", type=Path, help="where the JSONL files go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{'source':<16}{'documents':>10}{'MB':>8}")
    counts = []
    for source in SOURCES:
        counts.append(write_source(source, folder))
        print(f"{source.name:<16}{counts[-1][0]:>10,}{counts[-1][1] / 1e6:>8.2f}", flush=True)
    print(f"{'total':<16}{sum(c[0] for c in counts):>10,}{sum(c[1] for c in counts) / 1e6:>8.2f}")


if __name__ == "__main__":
    main()
