"""The corpora: harvested or mixed, annotated by our own pipeline, clean or with noise planted."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import zstandard
from benchmarks.evidence.grid import Arm, Preset
from benchmarks.evidence.shell import toremi

PIECE = 6000
"""Characters: longer documents are cut, or a source of two documents could have nothing held out."""
LEAST_SHARE = 1 / 200
"""Of a source in the mixed corpus, as far as it has so much."""
HOLDOUT = 0.03
MAX_TOKENS = 256
NUM_TOPICS = 40
"""Set, not found: so that all grids have topics of the same fineness."""
TOLERANCE = 0.02
UNSEEN = "unseen"
HARVESTED = ("demo", "install")
"""Corpora of what is installed: prose and code alone, and with all that lies around them."""
JUNK_SOURCE = "junk_"
"""Begins the names of sources that are junk."""
UNSEEN_CHARACTERS = 50_000
"""Of a source in the text of documents that are not in the mixture."""
UNSEEN_DOCUMENTS = 16
"""A source with fewer such documents is left out."""


def workdir_of(out: Path, corpus: str) -> Path:
    """Where a corpus' tables and runs are."""
    return out / corpus


def prepare(arm: Arm, preset: Preset, out: Path, domains: Path | None, junk: Path | None = None) -> Path:
    """Make an arm's corpus, as far as it isn't there; return its table `annotated`."""
    workdir = workdir_of(out, arm.corpus)
    text = out / f"{arm.corpus}-text"
    if not text.exists():
        partial = text.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        if arm.corpus in HARVESTED:
            what = ["--clean"] if arm.corpus == "demo" else ["--mark", JUNK_SOURCE]
            subprocess.run([sys.executable, "-m", "examples.harvest_corpus", str(partial), *what], check=True)
        elif domains is None:
            raise SystemExit("the mixed corpus needs --domains DIR: a folder of JSONL files, one a source")
        else:
            mix(domains, partial, preset.megabytes * 1_000_000)
            if arm.corpus == "junk":
                add_junk(junk, partial)
        partial.rename(text)
    sizes = ["--max-tokens", MAX_TOKENS, "--vocab-size", preset.vocab_size, "--holdout", HOLDOUT]
    sizes += ["--num-topics", NUM_TOPICS]
    sizes += ["--group-field", "group"] if arm.corpus in HARVESTED else []
    toremi("annotate", text, "--workdir", workdir, *sizes)
    return plant_noise(arm, workdir) if arm.noise else workdir / "annotated"


def mix(domains: Path, out: Path, num_characters: int) -> None:
    """Write a mixture of JSONL files: each source by its size, but none less than LEAST_SHARE of the whole."""
    out.mkdir(parents=True)
    paths = sorted(p for p in domains.iterdir() if p.name.endswith((".jsonl", ".jsonl.zst")))
    sizes = {path: sum(len(text) for _, text in pieces(path)) for path in paths}
    for path, size in sizes.items():
        source = path.name.split(".")[0]
        wanted = max(size * num_characters / sum(sizes.values()), LEAST_SHARE * num_characters)
        with (out / f"{source}.jsonl").open("w", encoding="utf-8") as file:
            for name, text in sorted(pieces(path), key=lambda p: hashlib.md5(p[0].encode()).digest()):
                if wanted <= 0:
                    break
                file.write(json.dumps({"id": name, "source": source, "text": text}) + "\n")
                wanted -= len(text)


def add_junk(junk: Path | None, out: Path) -> None:
    """Write each JSONL file of a folder as a source of its own, whole."""
    if junk is None:
        raise SystemExit("the junk arm needs --junk DIR: a folder of JSONL files, one a kind of junk")
    for path in sorted(p for p in junk.iterdir() if p.name.endswith((".jsonl", ".jsonl.zst"))):
        source = JUNK_SOURCE + path.name.split(".")[0]
        with (out / f"{source}.jsonl").open("w", encoding="utf-8") as file:
            for name, text in pieces(path):
                file.write(json.dumps({"id": f"{source}:{name}", "source": source, "text": text}) + "\n")


def pieces(path: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each piece of each document."""
    opened = zstandard.open(path, "rt", encoding="utf-8") if path.suffix == ".zst" else path.open(encoding="utf-8")
    with opened as file:
        for number, line in enumerate(file):
            text = json.loads(line)["text"]
            yield from ((f"{path.name}:{number}:{k}", text[k : k + PIECE]) for k in range(0, len(text), PIECE))


def unseen_text(corpus: str, domains: Path, out: Path) -> Path:
    """Write text of documents of which nothing is in the mixture: the beginning of each, a file a source.

    The mixture's own test split holds other pieces of documents that are trained on, since some sources are a few
    documents in all. These documents are new to every run.
    """
    folder = out / f"{corpus}-{UNSEEN}"
    if folder.exists():
        return folder
    mixed = {document_of(row["id"]) for path in (out / f"{corpus}-text").glob("*.jsonl") for row in rows_of(path)}
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for path in sorted(p for p in domains.iterdir() if p.name.endswith((".jsonl", ".jsonl.zst"))):
        beginnings = ((name, text) for name, text in pieces(path) if name.endswith(":0"))
        unseen = [(document_of(name), text) for name, text in beginnings if document_of(name) not in mixed and text]
        if len(unseen) < UNSEEN_DOCUMENTS:
            continue
        source, left = path.name.split(".")[0], UNSEEN_CHARACTERS
        with (partial / f"{source}.jsonl").open("w", encoding="utf-8") as file:
            for name, text in sorted(unseen, key=lambda p: hashlib.md5(p[0].encode()).digest()):
                if left > 0:
                    file.write(json.dumps({"id": name, "source": source, "text": text}) + "\n")
                    left -= len(text)
    partial.rename(folder)
    return folder


def document_of(piece: str) -> str:
    """Name of the document that a piece is part of."""
    return piece.rsplit(":", 1)[0]


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def plant_noise(arm: Arm, workdir: Path) -> Path:
    """Corrupt whole topics until about the wanted share of the training tokens is noise."""
    source = workdir / "annotated"
    for number, topic in enumerate(noisy_topics(source, workdir / "topics.parquet", arm)):
        target = workdir / f"{arm.name}-{number}"
        by_source = arm.topics == "source" or arm.kind == "mark"
        way = ["--topic", topic, "--by", "source" if by_source else "topic", "--kind", arm.kind]
        toremi("corrupt", source, "--workdir", workdir, *way, "-o", target)
        source = target
    return source


def noisy_topics(annotated: Path, topics: Path, arm: Arm) -> list[str]:
    """Names of the topics to corrupt: by a hash of their names, so that large and small ones are among them."""
    if arm.kind == "mark":
        sources = ds.dataset(annotated).to_table(["source"])["source"].unique().to_pylist()
        return sorted(source for source in sources if source.startswith(JUNK_SOURCE))
    column = "source" if arm.topics == "source" else "topic"
    rows = ds.dataset(annotated).to_table([column, "num_tokens"], filter=ds.field("split") == "train")
    tokens: Counter[Any] = Counter()
    for topic, count in zip(rows[column].to_pylist(), rows["num_tokens"].to_pylist(), strict=True):
        tokens[topic] += count
    tokens.pop(-1, None)
    names = {row["topic"]: row["name"] for row in ds.dataset(topics).to_table(["topic", "name"]).to_pylist()}
    chosen, share = [], 0.0
    named = sorted((hashlib.md5(str(names.get(t, t)).encode()).digest(), str(names.get(t, t)), t) for t in tokens)
    for _, name, topic in named:
        if share + tokens[topic] / tokens.total() <= arm.noise + TOLERANCE:
            chosen.append(name)
            share += tokens[topic] / tokens.total()
    return chosen
