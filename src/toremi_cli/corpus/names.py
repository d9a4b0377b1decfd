"""What a file's name and folders say: its format, the source of its documents, and what is no document at all.

The source is the first sub-folder, of a partition `source=web` its value; of a file right in the corpus' folder it is
the name that the shards of a set share, of source code the language, else the file's own name. Many loose texts are
one source, named like the corpus.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import PurePosixPath
from urllib.parse import unquote

from toremi_cli.errors import UsageError

FORMATS = {
    ".txt": "text",
    ".md": "text",
    ".markdown": "text",
    ".rst": "text",
    ".tex": "text",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
COMPRESSIONS = {".gz": "gz", ".zst": "zst"}
SUPPORTED = "txt, md, jsonl, json, csv, tsv and source code, each also .gz or .zst, parquet and arrow"
LANGUAGES = {
    "Ada": "adb ads",
    "Assembly": "asm s",
    "C": "c h",
    "C#": "cs",
    "C++": "cc cpp cxx hh hpp hxx",
    "CUDA": "cu cuh",
    "Clojure": "clj cljs",
    "Common Lisp": "lisp",
    "D": "d",
    "Dart": "dart",
    "Elixir": "ex exs",
    "Elm": "elm",
    "Emacs Lisp": "el",
    "Erlang": "erl hrl",
    "F#": "fs fsx",
    "Fortran": "f f90 f95 for",
    "Go": "go",
    "Groovy": "groovy",
    "Haskell": "hs lhs",
    "Java": "java",
    "JavaScript": "js jsx mjs cjs",
    "Julia": "jl",
    "Kotlin": "kt kts",
    "Lua": "lua",
    "MATLAB": "m",
    "Nim": "nim",
    "OCaml": "ml mli",
    "Objective-C++": "mm",
    "PHP": "php",
    "Pascal": "pas",
    "Perl": "pl pm",
    "PowerShell": "ps1 psm1",
    "Protocol Buffer": "proto",
    "Python": "py pyi pyx pxd",
    "R": "r",
    "Ruby": "rb",
    "Rust": "rs",
    "SQL": "sql",
    "Scala": "scala",
    "Scheme": "scm",
    "Shell": "sh bash zsh",
    "Swift": "swift",
    "SystemVerilog": "sv svh",
    "TypeScript": "ts tsx",
    "VHDL": "vhd vhdl",
    "Verilog": "v",
    "Visual Basic": "vb",
    "Zig": "zig",
}
"""The usual endings of source code, by language."""
LANGUAGE_OF = {f".{ending}": name for name, endings in LANGUAGES.items() for ending in endings.split()}
LEFT_OUT_DATA = {
    "config.json",
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "state.json",
    "indices.arrow",
}
"""Beside data, in the layouts of `datasets` and the hub: what describes it."""
_ABOUT = re.compile(
    r"(readme|licen[cs]e|copying|notice|contributing|changelog|citation|code_of_conduct)([.-]\w+)*|"
    r"requirements([._-](dev|tests?|docs))?\.txt"
)
_OF = re.compile(r"[-._]?\d+[-._]of[-._]\d+([-._][0-9a-f]{8,})?$")
"""The shard's number in the names of `datasets`, C4 and many others: 00000-of-01024, and a hash of what is in it."""
_NUMBER = re.compile(r"(?:^|[-._])(\d+)$")
_SPARK = re.compile(r"^part-\d+(-[0-9a-f-]{36})?([-.]c\d+)?([.](snappy|zstd|gz|lz4))?$")
_NAMELESS = ("", "part", "data", "shard", "chunk", "file")
"""What only says that a file is one of several."""
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
DOLMA_DOCUMENTS, DOLMA_ATTRIBUTES = "documents", "attributes"


def more_endings(text: str | None) -> frozenset[str]:
    """'rst,.inc' as endings with a dot, in lower case.

    Raises:
        UsageError: an ending that none can be.
    """
    endings = [part.strip().lstrip("*").lower() for part in (text or "").split(",")]
    for ending in filter(None, endings):
        if not re.fullmatch(r"\.?[\w+#-]+", ending):
            raise UsageError(f"--ext {text}: {ending!r} is no file ending; expected some like html,toml")
        if ending.lstrip(".") in ("gz", "zst", "parquet", "arrow"):
            raise UsageError(f"--ext {text}: a {ending.lstrip('.')} file is no text; leave it out")
    return frozenset("." + ending.lstrip(".") for ending in endings if ending)


def split_name(name: str, as_text: Collection[str] = ()) -> tuple[str, str | None, str | None]:
    """A file name's stem, format and compression; format None where it isn't supported.

    `as_text` holds endings of files that are read as text, whatever else they may be.
    """
    path = PurePosixPath(name)
    compression = COMPRESSIONS.get(path.suffix.lower())
    if compression:
        path = path.with_suffix("")
    ending = path.suffix.lower()
    if ending in as_text:
        kind: str | None = "text"
    else:
        kind = FORMATS.get(ending) or ("code" if ending in LANGUAGE_OF else None)
    if kind in ("parquet", "arrow") and compression:
        kind = None
    return (path.stem if kind else PurePosixPath(name).name), kind, compression


def is_about(name: str) -> bool:
    """Whether a file speaks of what stands beside it: a card, a licence, what has to be installed."""
    return bool(_ABOUT.fullmatch(name.rpartition("/")[2].lower()))


def language_of(name: str) -> str | None:
    """The language of a file of source code, None of others."""
    packed = name.lower().removesuffix(".gz").removesuffix(".zst")
    return LANGUAGE_OF.get(PurePosixPath(packed).suffix)


def is_hidden(name: str) -> bool:
    """Whether a path is left alone without a word: '.x', '.x/y'."""
    return any(part.startswith(".") for part in name.split("/"))


def is_private(name: str, kind: str | None) -> bool:
    """Whether a path is '_x' or '_x/y', as what tools keep beside data; in source code these are modules."""
    return kind != "code" and any(part.startswith("_") for part in name.split("/"))


def describes_data(name: str) -> bool:
    """Whether a file belongs to a saved data set without being part of it."""
    last = name.rpartition("/")[2]
    return last in LEFT_OUT_DATA or bool(re.fullmatch(r"cache-\w+\.arrow", last))


@cache
def _partition(folder: str) -> tuple[str, str] | None:
    key, sign, value = folder.partition("=")
    return (unquote(key), unquote(value)) if key and sign and value not in ("", _NO_VALUE) else None


def partitions_of(path: str) -> dict[str, str]:
    """Keys and values of the hive partitions in a path."""
    if "=" not in path:
        return {}
    return dict(filter(None, map(_partition, path.split("/")[:-1])))


def sources_of(files: Iterable[tuple[str, str, str]], one_source: str | None, corpus: str) -> dict[str, str]:
    """The source of each file's documents by its name, unless they name one themselves.

    Args:
        files: path in the corpus, stem and format of each.
        one_source: of loose texts, where they are many; None: one each.
        corpus: name of the corpus, where nothing else names a source.
    """
    sources: dict[str, str] = {}
    rows: dict[str, str] = {}
    files = list(files)
    is_dolma = all(name.startswith(f"{DOLMA_DOCUMENTS}/") for name, _, _ in files)
    for name, stem, kind in files:
        inner = name.removeprefix(f"{DOLMA_DOCUMENTS}/") if is_dolma else name
        folder, sign, _ = inner.partition("/")
        if sign:
            sources[name] = partitions_of(inner).get("source") or (_partition(folder) or ("", folder))[1]
        elif kind == "code":
            sources[name] = language_of(inner) or stem
        elif kind == "text":
            sources[name] = one_source or stem
        else:
            rows[name] = stem
    return sources | _sources_of_sets(rows, corpus)


def _sources_of_sets(stems: Mapping[str, str], corpus: str) -> dict[str, str]:
    """Shards of one set are one source; their stems end in a number, with leading zeros or counted from 0 or 1."""
    sources: dict[str, str] = {}
    numbered: dict[str, dict[str, str]] = defaultdict(dict)
    for name, stem in stems.items():
        if _SPARK.match(stem):
            sources[name] = corpus
        elif (of := _OF.search(stem)) is not None:
            sources[name] = _or(stem[: of.start()], corpus)
        elif (number := _NUMBER.search(stem)) is not None:
            numbered[stem[: number.start()]][name] = number[1]
        else:
            sources[name] = stem
    for base, members in numbered.items():
        is_set = _are_shards(list(members.values()))
        sources |= {name: _or(base, corpus) if is_set else stems[name] for name in members}
    return sources


def _or(base: str, corpus: str) -> str:
    return corpus if base.lower() in _NAMELESS else base


def _are_shards(numbers: list[str]) -> bool:
    if len(numbers) < 2:
        return False
    is_padded = len({len(number) for number in numbers}) == 1 and any(number[0] == "0" for number in numbers)
    counted = sorted(map(int, numbers))
    return is_padded or counted in (list(range(len(counted))), list(range(1, len(counted) + 1)))
