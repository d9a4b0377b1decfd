"""Which files make up a corpus: of all that are there, those that hold documents."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from toremi_cli import console
from toremi_cli.corpus import lfs, names
from toremi_cli.corpus.names import SUPPORTED, split_name
from toremi_cli.corpus.walking import NOT_A_FILE, WORKDIR, Entry, find_entries, open_filesystem
from toremi_cli.errors import CorpusError, some
from toremi_cli.provenance import digest
from toremi_cli.remote import is_local

STAMPS = (
    "mtime",
    "LastModified",
    "ETag",
    "etag",
    "blob_id",
    "lfs",
    "updated",
    "generation",
    "last_modified",
    "created",
)
MANY_LOOSE_TEXTS = 50
"""More text files than this right in the corpus folder are documents of one source, not a source each."""
ABOUT = "about the data"
SCRIPTS = "code beside the data"
ATTRIBUTES = "attributes of Dolma documents"
OURS = "written by toremi"
PRIVATE = "named _…, or in a folder so named"
NO_DATA = (OURS, PRIVATE)
"""Beside these, what speaks of the data is all there is, and is read."""
POINTERS = "Git LFS pointers, the files themselves come with `git lfs pull`"

Paths = str | Sequence[str]
"""One path or URL of a corpus, or several."""


@dataclass(frozen=True)
class CorpusFile:
    """One file of a corpus."""

    path: str
    """Path in its file system, as fsspec opens it."""
    name: str
    """Path relative to the corpus, with '/'; for a corpus of one file, the file's name."""
    format: str
    compression: str | None
    size: int
    """In bytes, as stored."""
    stamp: str
    """Changes when the file does: time of modification, or an object store's tag."""
    shown: str
    """How errors name the file."""
    source: str
    """Source of its documents, unless they name one themselves."""
    beside_code: bool = False
    """Rows among source code: a program's data, unless they have a text."""
    problem: str = ""
    """Why it cannot be read, where the listing shows it."""
    begin: int = 0
    """First byte, of a range of a file; its `size` is the range's."""
    lines_before: int = 0
    """Lines of the file before a range."""


@dataclass(frozen=True)
class Listing:
    """The readable files of a corpus, in the order of their names."""

    corpus: str
    """How errors name the corpus."""
    filesystem: Any
    files: list[CorpusFile]
    passed_over: dict[str, int] = field(default_factory=dict)
    """Files of other types: how many of each extension."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Files of known types that hold no documents: their names, by what they are."""

    @property
    def fingerprint(self) -> str:
        """Changes when a file is added, removed, renamed, rewritten, or taken for something else."""
        return digest("listing", [(f.name, f.size, f.stamp, f.format, f.source) for f in self.files])


@dataclass(frozen=True)
class _Candidate:
    """A file of a type that can be read."""

    path: str
    name: str
    info: dict[str, Any]
    stem: str
    kind: str
    compression: str | None

    @property
    def size(self) -> int:
        return int(self.info.get("size") or 0)

    @property
    def folder(self) -> str:
        """Path in the corpus of the folder that it stands in; empty for the corpus' own."""
        return self.name.rpartition("/")[0]

    @property
    def group(self) -> str:
        """The first sub-folder; empty where it stands in none."""
        return self.name.partition("/")[0] if "/" in self.name else ""

    @property
    def holds_rows(self) -> bool:
        return self.kind not in ("text", "code")

    @property
    def is_soft(self) -> bool:
        """Whether programs have such files as well."""
        return not self.compression and self.name.lower().endswith((".json", ".csv", ".tsv"))


def list_corpus(corpus: Paths, as_text: Collection[str] = (), workdir: Path | None = None) -> Listing:
    """Find the files of a corpus.

    Args:
        corpus: a path or URL, or several on one file system.
        as_text: endings, with their dots, of files to read as text whatever else they are.
        workdir: where tables are written; nothing in it belongs to the corpus.

    Raises:
        CorpusError: nothing there, not readable, or no file of a supported type.
    """
    paths = [corpus] if isinstance(corpus, str) else list(corpus)
    filesystem, roots, entries = _find_all(paths, workdir)
    is_one_file = len(roots) == 1 and list(entries) == roots
    base = os.path.dirname(roots[0]) if is_one_file else os.path.commonpath(roots)  # noqa: PTH120
    protocol = paths[0].partition("://")[0] + "://" if "://" in paths[0] else ""
    candidates, passed_over, left_out = _candidates(entries.items(), base, set(roots), as_text)
    if not is_one_file:
        pointers = {c.name for c in candidates if is_local(filesystem) and _is_pointer(c)}
        left_out[POINTERS] += sorted(pointers)
        candidates = _choose([c for c in candidates if c.name not in pointers], left_out)
    if not candidates:
        raise CorpusError(
            f"{show_corpus(paths)}: no readable file{_found(passed_over, left_out)}; expected {SUPPORTED}"
        )
    files = _corpus_files(candidates, base, protocol)
    told = {what: own for what, own in left_out.items() if own}
    return Listing(show_corpus(paths), filesystem, files, dict(passed_over), told)


def _find_all(paths: Sequence[str], workdir: Path | None) -> tuple[Any, list[str], dict[str, dict[str, Any]]]:
    """The file system, each distinct path in it, and all files at or below them by their paths."""
    filesystem: Any = None
    roots: dict[str, None] = {}
    entries: dict[str, dict[str, Any]] = {}
    for path in paths:
        own, root = open_filesystem(path)
        if filesystem is not None and own != filesystem:
            raise CorpusError(f"{path}: is not where {paths[0]} is; name paths of one disk or one store")
        if (name := _readable(root)) != root:
            raise CorpusError(f"{name}: the path of the corpus is not UTF-8; rename it, or link to it")
        filesystem = own
        roots[root.rstrip("/")] = None
        entries.update(find_entries(filesystem, root, path, SUPPORTED, workdir))
    return filesystem, list(roots), dict(sorted(entries.items()))


def show_corpus(corpus: Paths) -> str:
    """How messages name a corpus."""
    paths = [corpus] if isinstance(corpus, str) else list(corpus)
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1:,} more"


def filesystem_of(corpus: Paths) -> Any:
    """The file system that holds a corpus, as fsspec knows it."""
    return open_filesystem(corpus if isinstance(corpus, str) else corpus[0])[0]


def tell_left_out(listing: Listing) -> None:
    """Say what stands in the corpus' folder and isn't read."""
    if listing.passed_over:
        most = Counter(listing.passed_over).most_common(5)
        kinds = ", ".join(f"{count:,} × {suffix}" for suffix, count in most)
        console.note(f"{listing.corpus}: passing over files of other types ({kinds})")
    for what, names_left in listing.left_out.items():
        tell = console.warn if what == POINTERS else console.note
        tell(f"{listing.corpus}: leaving out {some(names_left, 3)} ({what})")


def _candidates(
    entries: Iterable[Entry], base: str, roots: Collection[str], as_text: Collection[str]
) -> tuple[list[_Candidate], Counter[str], defaultdict[str, list[str]]]:
    """The files that can be read, how many can't by extension, and what is left out by what it is."""
    candidates: list[_Candidate] = []
    passed_over: Counter[str] = Counter()
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    for path, info in entries:
        name = path[len(base) :].lstrip("/") or PurePosixPath(path).name
        stem, kind, compression = split_name(name, as_text)
        if info.get("type") == WORKDIR:
            left_out[OURS].append(_readable(name))
        elif info.get("type") == "directory" or names.is_hidden(_below(path, roots)):
            continue
        elif names.is_private(_below(path, roots), kind):
            if kind is not None and info.get("type") != NOT_A_FILE:
                left_out[PRIVATE].append(name)
        elif info.get("type") == NOT_A_FILE:
            passed_over[NOT_A_FILE] += 1
        elif kind is None:
            passed_over[_readable(PurePosixPath(name).suffix) or "no extension"] += 1
        else:
            candidates.append(_Candidate(path, name, info, stem, kind, compression))
    return candidates, passed_over, left_out


def _below(path: str, roots: Collection[str]) -> str:
    """What of a path stands below the one that the user has named; empty where it is that itself."""
    above = path
    while above and above not in roots:
        above = above.rpartition("/")[0]
    return path[len(above) :].lstrip("/")


def _is_pointer(candidate: _Candidate) -> bool:
    if candidate.size not in lfs.LIKELY_BYTES:
        return False
    try:
        with open(candidate.path, "rb") as file:  # noqa: PTH123 - many files
            return lfs.is_pointer(file.read(len(lfs.BEGINNING)))
    except OSError:
        return False  # who reads it says why


def _choose(candidates: list[_Candidate], left_out: defaultdict[str, list[str]]) -> list[_Candidate]:
    """Those that hold documents: not what describes the data or stands beside it, unless it is all source code."""
    folders = _with_parents({candidate.folder for candidate in candidates})
    above_rows = _with_parents({candidate.folder for candidate in candidates if candidate.holds_rows})
    is_tree = is_source_tree(candidates)
    chosen, about = [], []
    for candidate in candidates:
        if _is_attribute(candidate.folder, folders):
            left_out[ATTRIBUTES].append(candidate.name)
        elif is_tree:
            chosen.append(candidate)
        elif candidate.kind == "text" and candidate.folder in above_rows and names.is_about(candidate.name):
            about.append(candidate)
        elif names.describes_data(candidate.name):
            left_out[ABOUT].append(candidate.name)
        elif candidate.kind == "code" and not candidate.folder:
            left_out[SCRIPTS].append(candidate.name)
        else:
            chosen.append(candidate)
    if not chosen and not any(own for what, own in left_out.items() if what not in NO_DATA):
        return about
    left_out[ABOUT] += [candidate.name for candidate in about]
    return chosen


def _with_parents(folders: Iterable[str]) -> set[str]:
    """Folders and those above them, the corpus' own too."""
    found = {""}
    for folder in folders:
        while folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def is_source_tree(candidates: Iterable[_Candidate]) -> bool:
    """Whether files are mostly source code: more of it than of what programs and corpora both have, and more bytes."""
    num_code = num_soft = bytes_code = bytes_hard = 0
    for candidate in candidates:
        if candidate.kind == "code":
            num_code += 1
            bytes_code += candidate.size
        elif candidate.is_soft:
            num_soft += 1
        elif not names.is_about(candidate.name):
            bytes_hard += candidate.size
    return num_code > num_soft and bytes_code > bytes_hard


def _is_attribute(folder: str, folders: Collection[str]) -> bool:
    """Whether files here stand in an `attributes` folder that Dolma keeps beside `documents`."""
    if names.DOLMA_ATTRIBUTES not in folder:
        return False
    parts = folder.split("/")
    places = (i for i, part in enumerate(parts) if part == names.DOLMA_ATTRIBUTES)
    return any("/".join([*parts[:i], names.DOLMA_DOCUMENTS]) in folders for i in places)


def _corpus_files(candidates: Sequence[_Candidate], base: str, protocol: str) -> list[CorpusFile]:
    corpus = _readable(PurePosixPath(base).name)
    loose_texts = sum(c.kind == "text" and not c.folder for c in candidates)
    one_source = corpus if loose_texts > MANY_LOOSE_TEXTS else None
    sources = names.sources_of(((c.name, c.stem, c.kind) for c in candidates), one_source, corpus)
    trees = _source_trees(candidates)
    files = []
    for c in candidates:
        stamp = next((str(c.info[key]) for key in STAMPS if c.info.get(key) is not None), "")
        path, name, source = _readable(c.path), _readable(c.name), _readable(sources[c.name])
        problem = "its name is not UTF-8; rename it, e.g. with convmv" if name != c.name else c.info.get("problem", "")
        beside_code = c.holds_rows and c.group in trees
        files.append(
            CorpusFile(path, name, c.kind, c.compression, c.size, stamp, protocol + path, source, beside_code, problem)
        )
    return files


def _source_trees(candidates: Sequence[_Candidate]) -> set[str]:
    """The groups that are mostly source code; all of them, where the corpus is."""
    by_group: defaultdict[str, list[_Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_group[candidate.group].append(candidate)
    is_tree = is_source_tree(candidates)
    return {group for group, own in by_group.items() if is_tree or (group and is_source_tree(own))}


def _readable(name: str) -> str:
    """A name that can be written down: bytes that are no UTF-8 as \\xNN."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


def _found(passed_over: Counter[str], left_out: dict[str, list[str]]) -> str:
    what = [f"{count:,} × {suffix}" for suffix, count in passed_over.most_common(5)]
    what += [f"{len(own):,} × {kind}" for kind, own in left_out.items() if own]
    return f" (found {', '.join(what)})" if what else " (it is empty)"
