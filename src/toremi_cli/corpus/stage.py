"""The first stage: a corpus becomes the table `samples` and a tokenizer.

Two passes over the files, part by part: one to look (see `scan`), one to cut (see `cut`); then the parts are joined
(see `join`). An interrupted run is continued at the first document of a part that no finished piece holds.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toremi_cli import console
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.counts import Counts
from toremi_cli.corpus.cut import cut_parts, read_progress
from toremi_cli.corpus.join import join_parts
from toremi_cli.corpus.listing import Paths, tell_left_out
from toremi_cli.corpus.overlap import WORTH_WARNING, Overlap, measure_overlap
from toremi_cli.corpus.parts import FOLDER, Parts, lay_out_parts, note_of_slow_file
from toremi_cli.corpus.plan import settle_split
from toremi_cli.corpus.readers import Corpus, ReadReport
from toremi_cli.corpus.same_files import as_before, remember_files
from toremi_cli.corpus.scan import scan_corpus
from toremi_cli.corpus.stratified import StratifiedSample
from toremi_cli.corpus.tokenizer import (
    fetch_tokenizer,
    is_saved,
    save_tokenizer,
    tokenizer_fingerprint,
    train_tokenizer,
)
from toremi_cli.engine import check_engine
from toremi_cli.errors import CorpusError, some
from toremi_cli.layout import Workdir
from toremi_cli.provenance import digest, provenance_of
from toremi_cli.schemas import END_OF_TEXT, SAMPLES, TEST, TRAIN, VALIDATION
from toremi_cli.stage import StageFolder

CUTTING_VERSION = 3
"""Of how a corpus is cut: with another one, tables of before are made anew."""


def build_samples(
    corpus: Paths, workdir: Workdir, config: CorpusConfig, *, engine: str = "local", workers: int = 1
) -> dict[str, Any]:
    """Write `samples` and the tokenizer, or see that both are up to date; return the manifest.

    `engine` and `workers` say where the parts are worked on; the tables don't depend on it.

    Raises:
        CorpusError: nothing to read, broken input, a tokenizer that cannot be had.
        UsageError: no such engine.
    """
    check_engine(engine)
    source = Corpus(corpus, config, workdir=workdir.root)
    source.listing = as_before(source.listing, workdir.samples)
    location = absolute_corpus(corpus)
    tokenizer = tokenizer_fingerprint(config.tokenizer)
    inputs = {"corpus": source.listing.fingerprint, "tokenizer": tokenizer, "method": f"version {CUTTING_VERSION}"}
    stage = StageFolder(workdir.samples, SAMPLES, provenance_of(SAMPLES, "toremi embed", asdict(config), inputs))
    tokenizer_key = _tokenizer_key(config, inputs)
    if is_saved(workdir.tokenizer, tokenizer_key) and (finished := stage.up_to_date()):
        shutil.rmtree(workdir.samples / FOLDER, ignore_errors=True)
        return finished
    tell_left_out(source.listing)
    if (told := note_of_slow_file(source.listing.files, workers)) is not None:
        console.warn(told)
    with stage.planned(corpus=location):
        parts = lay_out_parts(workdir.samples, source, location, stage.provenance)
        named = None
        if config.tokenizer is not None and not is_saved(workdir.tokenizer, tokenizer_key):
            named = fetch_tokenizer(config.tokenizer)  # first, as it may be refused
        scan = scan_corpus(parts, source, engine=engine, workers=workers)
        _tell_skipped(scan.report)
        plan, tokenizer_text = settle_split(source, scan, config)
        if named is not None:
            save_tokenizer(named[0], workdir.tokenizer, tokenizer_key, *named[1:])
        elif not is_saved(workdir.tokenizer, tokenizer_key):
            trained = _train_tokenizer(config, tokenizer_text)
            save_tokenizer(trained, workdir.tokenizer, tokenizer_key, END_OF_TEXT, {})
        del scan.drawn, tokenizer_text  # the memory is wanted for cutting
    stage.begin()
    _tell_progress(stage, parts)
    cut_parts(parts, workdir.tokenizer, plan, scan.num_documents, engine=engine, workers=workers)
    num_shards, counts = join_parts(parts, stage, engine=engine, workers=workers)
    _warn_of_holdout(counts, config)
    overlap = measure_overlap(parts, stage, num_shards, engine=engine, workers=workers)
    _warn_of_overlap(overlap, config)
    facts = {
        "corpus": location,
        "num_files": len(source.listing.files),
        "num_documents_read": scan.num_documents,
        "num_empty_texts": scan.report.num_empty,
        "num_skipped": scan.report.num_skipped,
        "totals": counts.totals(),
        "sources": counts.as_record(),
        "overlap": asdict(overlap),
    }
    remember_files(workdir.samples, source.listing.files, scan.file_hashes)
    manifest = stage.finish(num_shards, **facts)
    shutil.rmtree(parts.root, ignore_errors=True)
    return manifest


def _tell_progress(stage: StageFolder, parts: Parts) -> None:
    num_pieces = sum(len(read_progress(parts, index)["pieces"]) for index in range(parts.num_parts))
    if num_pieces:
        console.note(f"{stage.folder}: going on after {num_pieces} finished shards")


def _tokenizer_key(config: CorpusConfig, inputs: dict[str, str]) -> str:
    if config.tokenizer is not None:
        return inputs["tokenizer"]
    # All but where shards end: what is held out isn't trained on, and by block that depends on the samples' length.
    reading = {key: value for key, value in asdict(config).items() if key != "shard_samples"}
    return digest("trained", inputs["corpus"], reading)


def _train_tokenizer(config: CorpusConfig, text: StratifiedSample[str]) -> Any:
    console.note(f"training a tokenizer on {text.total / 1e6:,.1f} MB of text")
    return train_tokenizer(text.items(), config.vocab_size, text.total)


def _tell_skipped(report: ReadReport) -> None:
    if report.num_skipped:
        console.warn(
            f"skipped {report.num_skipped:,} broken lines or files; the first: {report.problems[0]}", even_quiet=True
        )
    if report.num_empty:
        console.note(f"dropped {report.num_empty:,} documents without text")
    if report.num_not_text:
        console.note(f"passed over {report.num_not_text:,} files beside source code that hold no text")


def _warn_of_holdout(counts: Counts, config: CorpusConfig) -> None:
    if not counts.num_samples(TRAIN):
        raise CorpusError("no sample is left to train on: all are held out; give a smaller --holdout")
    if config.holdout == 0:
        return
    whole = {"too small to hold anything out": (TRAIN,), "all of it is held out": (VALIDATION, TEST)}
    for what, splits in whole.items():
        names = [
            name
            for name, source in sorted(counts.sources.items())
            if source.samples and source.samples == sum(source.splits[split].samples for split in splits)
        ]
        if names:
            groups = f" (groups by '{config.group_field}')" if config.group_field else ""
            console.warn(f"{what}{groups}: {some(names, 5)}", even_quiet=True)
    for split in (VALIDATION, TEST):
        if not counts.num_samples(split):
            console.warn(f"the {split} split is empty: nothing will be evaluated on it", even_quiet=True)


def _warn_of_overlap(overlap: Overlap, config: CorpusConfig) -> None:
    if overlap.share > WORTH_WARNING:
        most = max(overlap.shared_by_source, key=lambda source: overlap.shared_by_source[source])
        console.warn(
            f"{overlap.share:.0%} of the held-out samples stand mostly in the training text too (most of them in "
            f"{most}), so their loss is too low: "
            + ("remove near-duplicates" if config.group_field else "keep pieces together with --group-field"),
            even_quiet=True,
        )


def absolute_corpus(corpus: Paths) -> str | list[str]:
    """The name, or names, under which a corpus is remembered."""
    if isinstance(corpus, str):
        return corpus if "://" in corpus else str(Path(corpus).resolve())
    names = [str(absolute_corpus(path)) for path in corpus]
    return names[0] if len(names) == 1 else names


def place_of(corpus: Paths) -> str:
    """Where a corpus is: of several paths the folder that holds them, so that one file more is no other corpus."""
    names = absolute_corpus(corpus)
    if isinstance(names, str):
        return names
    try:
        return os.path.commonpath(names)
    except ValueError:  # a path and a URL: reading them says what is wrong
        return names[0]
