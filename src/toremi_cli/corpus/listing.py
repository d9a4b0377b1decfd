"""Which files make up a corpus: a file or a folder, on the local disk or behind any fsspec URL."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from toremi_cli.errors import CorpusError, reason
from toremi_cli.provenance import digest

FORMATS = {
    ".txt": "text",
    ".md": "text",
    ".markdown": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
COMPRESSIONS = {".gz": "gz", ".zst": "zst"}
SUPPORTED = "txt, md, jsonl, json (one object a line), csv, tsv, each also .gz or .zst, and parquet"
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
EXTRAS = ("s3", "gs")
"""Of our extras, those named as the protocol that they are for."""
MANY_LOOSE_TEXTS = 50
"""More txt and md files than this right in the corpus folder are documents of one source, not a source each."""


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


@dataclass(frozen=True)
class Listing:
    """The readable files of a corpus, in the order of their names."""

    corpus: str
    filesystem: Any
    files: list[CorpusFile]
    passed_over: dict[str, int] = field(default_factory=dict)
    """Files of other types: how many of each extension."""

    @property
    def fingerprint(self) -> str:
        """Changes when a file is added, removed, renamed or rewritten."""
        return digest("listing", [(f.name, f.size, f.stamp) for f in self.files])


def list_corpus(corpus: str) -> Listing:
    """Find the files of a corpus.

    Raises:
        CorpusError: nothing there, not readable, or no file of a supported type.
    """
    filesystem, root = _open_filesystem(corpus)
    try:
        if filesystem.isfile(root):
            entries, base = [(root, filesystem.info(root))], root.rsplit("/", 1)[0]
        elif filesystem.exists(root):
            entries, base = sorted(_walk(filesystem, root), key=lambda entry: entry[0]), root.rstrip("/")
        elif is_local(filesystem) and Path(root).is_symlink():
            raise CorpusError(f"{corpus}: is a link to something that is not there")
        else:
            raise CorpusError(f"{corpus}: {_why_absent(corpus)}; expected a corpus ({SUPPORTED})")
    except CorpusError:
        raise
    except Exception as problem:  # a remote file system raises its own kinds
        raise CorpusError(f"{corpus}: cannot be read ({_reason(problem)})") from None
    return _build(corpus, filesystem, base, entries)


def _why_absent(corpus: str) -> str:
    if corpus == "-":
        return "standard input is read once and a corpus twice: write it to a file"
    if any(sign in corpus for sign in "*?["):
        return "no such file or folder, and patterns are not taken: name the folder that holds the files"
    return "no such file or folder"


def filesystem_of(corpus: str) -> Any:
    """The file system that holds a corpus, as fsspec knows it."""
    return _open_filesystem(corpus)[0]


def is_local(filesystem: Any) -> bool:
    """Whether it is the local file system, as fsspec knows it."""
    return filesystem.protocol == "file" or "file" in filesystem.protocol


def split_name(name: str) -> tuple[str, str | None, str | None]:
    """A file name's stem, format and compression; format None where it isn't supported."""
    path = PurePosixPath(name)
    compression = COMPRESSIONS.get(path.suffix.lower())
    if compression:
        path = path.with_suffix("")
    kind = FORMATS.get(path.suffix.lower())
    if kind == "parquet" and compression:
        kind = None
    return (path.stem if kind else PurePosixPath(name).name), kind, compression


def _open_filesystem(corpus: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    if not corpus:
        raise CorpusError("the corpus has an empty name; expected a file, a folder or a URL")
    try:
        filesystem, root = url_to_fs(corpus)
    except ImportError as problem:
        protocol = corpus.partition("://")[0]
        package = f"'toremi[{protocol}]'" if protocol in EXTRAS else "the package that fsspec names"
        raise CorpusError(f"{corpus}: {_reason(problem)} (pip install {package})") from None
    except ValueError as problem:
        raise CorpusError(f"{corpus}: {_reason(problem)}") from None
    return filesystem, root


def _walk(filesystem: Any, root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not is_local(filesystem):
        yield from filesystem.find(root, detail=True).items()
        return
    # fsspec's own walk passes over folders that it may not enter, without a word

    def refuse(problem: OSError) -> None:
        raise problem

    entered: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        entered.add(os.path.realpath(folder))
        inner = [name for name in subfolders if not name.startswith((".", "_"))]
        # a link back to a folder above would go round for ever
        subfolders[:] = [name for name in inner if os.path.realpath(os.path.join(folder, name)) not in entered]  # noqa: PTH118
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - millions of files
            if not name.startswith((".", "_")) and split_name(name)[1]:
                status = Path(path).stat()
                yield path, {"size": status.st_size, "mtime": status.st_mtime_ns, "type": "file"}
            else:
                yield path, {"size": 0, "type": "file"}


def _build(corpus: str, filesystem: Any, base: str, entries: list[tuple[str, dict[str, Any]]]) -> Listing:
    found: list[tuple[str, str, dict[str, Any]]] = []
    passed_over: Counter[str] = Counter()
    for path, info in entries:
        name = path[len(base) :].lstrip("/") or PurePosixPath(path).name
        if any(part.startswith((".", "_")) for part in name.split("/")):
            continue
        if split_name(name)[1] is None:
            passed_over[PurePosixPath(name).suffix or "no extension"] += 1
        elif info.get("type") != "directory":
            found.append((path, name, info))
    if not found:
        others = f" (found {_counted(passed_over)})" if passed_over else " (it is empty)"
        raise CorpusError(f"{corpus}: no readable file{others}; expected {SUPPORTED}")
    loose_texts = sum("/" not in name and split_name(name)[1] == "text" for _, name, _ in found)
    one_source = PurePosixPath(base).name if loose_texts > MANY_LOOSE_TEXTS else None
    protocol = corpus.partition("://")[0] + "://" if "://" in corpus else ""
    files = [_corpus_file(path, name, info, protocol, one_source) for path, name, info in found]
    return Listing(corpus, filesystem, files, dict(passed_over))


def _corpus_file(path: str, name: str, info: dict[str, Any], protocol: str, one_source: str | None) -> CorpusFile:
    stem, kind, compression = split_name(name)
    assert kind is not None
    stamp = next((str(info[key]) for key in STAMPS if info.get(key) is not None), "")
    loose = (one_source if kind == "text" else None) or stem
    source = name.split("/", 1)[0] if "/" in name else loose
    return CorpusFile(path, name, kind, compression, int(info.get("size") or 0), stamp, protocol + path, source)


def _counted(passed_over: Counter[str]) -> str:
    return ", ".join(f"{count:,} × {suffix}" for suffix, count in passed_over.most_common(5))


def _reason(problem: BaseException) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    return reason(problem)
