"""The clean half: encyclopaedia articles, news and newsgroup posts (gensim's test data), Python's manual, documentation
of numerical and of machine-learning libraries (their docstrings), source code of the standard library, C++ headers,
licences and package pages: unevenly sized, as corpora are.
"""

from __future__ import annotations

import ast
import bz2
import pickletools
import re
import zlib
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


def docstrings(*packages: str) -> Harvest:
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
    root = standard_library()
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


def licences() -> Iterator[Document]:
    """Licence texts of the installed packages, cut at blank lines into pieces of some 4,000 characters."""
    for path in distribution_files(r"licen[cs]e|copying|notice"):
        within = next(i for i, part in enumerate(path.parts) if part.endswith(".dist-info"))
        for number, piece in enumerate(pieces(read_text(path), "\n\n")):
            yield f"{'/'.join(path.parts[within:])}/{number}", piece


def package_pages() -> Iterator[Document]:
    """What the installed packages say of themselves on their index page."""
    for path in distribution_files(r"^METADATA$"):
        _, _, description = read_text(path).partition("\n\n")
        yield path.parent.name, description.strip()


PROSE_AND_CODE = (
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
