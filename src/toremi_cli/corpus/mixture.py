"""Drawing a mixture of sources by token targets (ToReMi §data: books 0.2%, code 13.8%, reference 2.5%, web 83.5%).

A document is taken if its seeded hash is below its source's threshold, so a smaller mixture is contained in a larger
one. The thresholds come from a histogram of the tokens over hashes, one for each source that has a share, or one for
the whole corpus: memory does not grow with it. A mixture takes whole documents, as near to its target as those can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli import console
from toremi_cli.corpus.config import WHOLE_CORPUS, CorpusConfig, MixtureConfig
from toremi_cli.corpus.fields import Document
from toremi_cli.corpus.hashing import keyed_hash
from toremi_cli.corpus.ids import DistinctIds
from toremi_cli.corpus.listing import Paths, tell_left_out
from toremi_cli.corpus.readers import Corpus, ReadReport
from toremi_cli.corpus.scan import PIECE_CHARS, batches
from toremi_cli.corpus.shards import JsonlShards
from toremi_cli.corpus.stratified import StratifiedSample
from toremi_cli.corpus.tokenizer import fetch_tokenizer, tokenizer_fingerprint, train_tokenizer
from toremi_cli.errors import CorpusError, UsageError, some
from toremi_cli.files import find_json, output_folder, write_json
from toremi_cli.lm.tokenizer import TextTokenizer
from toremi_cli.provenance import digest

NUM_BUCKETS = 1 << 16
"""A threshold is exact to this part of a source, or to one document."""
BUCKET_SHIFT = 64 - 16
RECORD = "_mixture.json"
WORTH_TELLING = 0.05
"""A mixture that misses its target by a larger part of it is remarked upon."""
ROUNDING = 0.005
"""Shares that sum to 1 but for this are not remarked upon."""
ESTIMATE_BYTES = 4_000_000
"""Text on which bytes a token are measured, where no tokenizer is named."""


@dataclass
class Histograms:
    """Tokens and documents of each wanted source over the hash of the document: (NUM_BUCKETS,) each."""

    tokens: dict[str, np.ndarray]
    documents: dict[str, np.ndarray]
    other_sources: set[str] = field(default_factory=set)
    num_read: int = 0


def build_mixture(corpus: Paths, out: Path, config: MixtureConfig, reading: CorpusConfig) -> dict[str, Any]:
    """Write the mixture to `out` as jsonl.zst (several targets: a folder each); return what was taken.

    Raises:
        CorpusError: broken input, or a source that the corpus doesn't have.
        UsageError: `out` holds something else.
    """
    source = Corpus(corpus, reading, workdir=out)
    key = digest("mixture", asdict(config), asdict(reading), source.listing.fingerprint, _tokenizer_key(config))
    finished: dict[str, Any] | None = find_json(out / RECORD)
    if finished and finished["fingerprint"] == key:
        console.note(f"{out}: up to date")
        return finished
    if out.exists() and not finished and (out.is_file() or any(out.iterdir())):
        raise UsageError(f"-o {out}: is there already and is no mixture; name a new folder, or move it away")
    if other := _not_ours(out, finished):
        raise UsageError(f"-o {out}: holds {some(other, 3)} beside a mixture; name a new folder, or move it away")
    tell_left_out(source.listing)
    report = ReadReport()
    histograms = count_tokens(source, config, report)
    thresholds, mixtures = {}, {}
    for name, target in config.targets.items():
        thresholds[name], mixtures[name] = plan_mixture(histograms, config, target)
        _tell_short(name, mixtures[name], config.short)
        _tell_coarse(name, mixtures[name])
    _tell_scaled(config.ratio_of)
    if histograms.other_sources:
        console.note(f"not in --ratios, left out: {some(sorted(histograms.other_sources), 8)}")
    record = {
        "fingerprint": key,
        "corpus": corpus if isinstance(corpus, str) else list(corpus),
        "config": asdict(config),
        "tokens_are": "estimated" if config.tokenizer is None else "exact",
        "num_skipped": report.num_skipped,
        "mixtures": mixtures,
    }
    _write(source, out, config, thresholds, histograms.num_read, record)
    return record


def _not_ours(out: Path, record: dict[str, Any] | None) -> list[str]:
    """What stands in the folder of a mixture and would go with it."""
    if not record:
        return []
    ours = {RECORD, *record["mixtures"]}
    inside = (path.relative_to(out) for path in out.rglob("*"))
    return sorted(str(path) for path in inside if str(path) not in ours and not path.match("part-*.jsonl.zst"))


def bucket_of(seed: int, document: Document) -> int:
    """Where a document stands in the order in which its source is drawn: 0 to NUM_BUCKETS - 1."""
    return keyed_hash("mixture", seed, document.source, document.id) >> BUCKET_SHIFT


def count_tokens(source: Corpus, config: MixtureConfig, report: ReadReport) -> Histograms:
    """Read the corpus once and count."""
    empty = {name: np.zeros(NUM_BUCKETS) for name in config.ratio_of}
    histograms = Histograms(empty, {name: np.zeros(NUM_BUCKETS, np.int64) for name in config.ratio_of})
    named = TextTokenizer(fetch_tokenizer(config.tokenizer)[0]) if config.tokenizer is not None else None
    text: StratifiedSample[tuple[str, str]] = StratifiedSample(ESTIMATE_BYTES)
    ids = DistinctIds(source)
    with console.progress("counting tokens", unit="documents") as bar:
        for batch in batches(source.documents(report)):
            ids.add(batch)
            wanted = [(name, d) for d in batch if (name := config.drawn_as(d.source)) is not None]
            histograms.other_sources.update(d.source for d in batch if config.drawn_as(d.source) is None)
            texts = [document.text for _, document in wanted]
            sizes = named.count(texts) if named else [len(text.encode()) for text in texts]
            for (name, document), size in zip(wanted, sizes, strict=True):
                bucket = bucket_of(config.seed, document)
                histograms.tokens[name][bucket] += size
                histograms.documents[name][bucket] += 1
                if named is None:
                    piece = document.text[:PIECE_CHARS]
                    key = keyed_hash("bytes a token", config.seed, document.id)
                    text.add(name, key, len(piece.encode()), (name, piece))
            histograms.num_read += len(batch)
            bar.advance(len(batch))
    _refuse_absent(histograms, source.listing.corpus)
    if named is None:
        for name, rate in _bytes_per_token(text).items():
            histograms.tokens[name] /= rate
    return histograms


def plan_mixture(
    histograms: Histograms, config: MixtureConfig, target: float
) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """For one token target: how many buckets of each source are taken, and what that comes to."""
    available = {name: float(counts.sum()) for name, counts in histograms.tokens.items()}
    shares = config.shares()
    targets = share_out(shares, available, target, redistribute=config.short == "redistribute")
    thresholds, taken = {}, {}
    for name in config.ratio_of:
        threshold = nearest_threshold(histograms.tokens[name], targets[name])
        thresholds[name] = threshold
        taken[name] = {
            "wanted_tokens": round(shares[name] * target),
            "target_tokens": round(targets[name]),
            "available_tokens": round(available[name]),
            "tokens": round(float(histograms.tokens[name][:threshold].sum())),
            "documents": int(histograms.documents[name][:threshold].sum()),
            "is_short": available[name] < shares[name] * target * (1 - 1e-9),
        }
    return thresholds, taken


def share_out(
    shares: Mapping[str, float], available: Mapping[str, float], total: float, *, redistribute: bool
) -> dict[str, float]:
    """Tokens to take from each source: its share, at most what it has; the rest goes to the others, if so wished.

    What is redistributed goes to the others in proportion to their shares, so a larger total never takes less of any.
    """
    targets = {name: min(share * total, available[name]) for name, share in shares.items()}
    while redistribute:
        missing = total - sum(targets.values())
        open_sources = [name for name in shares if targets[name] < available[name] * (1 - 1e-12)]
        if missing <= total * 1e-9 or not open_sources:
            break
        open_share = sum(shares[name] for name in open_sources)
        for name in open_sources:
            targets[name] = min(targets[name] + missing * shares[name] / open_share, available[name])
    return targets


def nearest_threshold(tokens: np.ndarray, target: float) -> int:
    """The number of buckets, from the first, whose tokens come nearest to `target`; at least one with a document."""
    cumulative = np.cumsum(tokens)
    if target >= cumulative[-1] * (1 - 1e-12):
        return len(tokens)
    above = int(np.searchsorted(cumulative, target))
    below_gap = target - (cumulative[above - 1] if above else 0.0)
    stays_below = above and cumulative[above - 1] > 0 and below_gap < cumulative[above] - target
    return above if stays_below else above + 1


def _write(
    source: Corpus,
    out: Path,
    config: MixtureConfig,
    thresholds: dict[str, dict[str, int]],
    num_documents: int,
    record: dict[str, Any],
) -> None:
    """Stream the corpus once more into the folders of all targets, which appear when all is written."""
    with output_folder(out) as temporary:
        with ExitStack() as stack, console.progress("writing", total=num_documents, unit="documents") as bar:
            folders = {name: temporary / name if len(thresholds) > 1 else temporary for name in thresholds}
            writers = {name: stack.enter_context(JsonlShards(folder)) for name, folder in folders.items()}
            for batch in batches(source.documents()):
                for document in batch:
                    if (drawn_as := config.drawn_as(document.source)) is not None:
                        row = {"id": document.id, "source": document.source, "text": document.text}
                        if document.group is not None:
                            row["group"] = document.group
                        bucket = bucket_of(config.seed, document)
                        for name, writer in writers.items():
                            if bucket < thresholds[name][drawn_as]:
                                writer.write(row)
                bar.advance(len(batch))
        write_json(temporary / RECORD, record)


def _bytes_per_token(text: StratifiedSample[tuple[str, str]]) -> dict[str, float]:
    """Bytes a token by source, of a tokenizer trained on the very sample that it is measured on."""
    pieces = text.items()
    tokenizer = TextTokenizer(train_tokenizer((piece for _, piece in pieces), 16384, text.total))
    sizes: dict[str, list[int]] = {}
    for (name, piece), num_tokens in zip(pieces, tokenizer.count([piece for _, piece in pieces]), strict=True):
        entry = sizes.setdefault(name, [0, 0])
        entry[0] += len(piece.encode())
        entry[1] += num_tokens
    return {name: num_bytes / num_tokens for name, (num_bytes, num_tokens) in sizes.items()}


def _refuse_absent(histograms: Histograms, corpus: str) -> None:
    absent = [name for name, counts in histograms.documents.items() if not counts.any()]
    if absent:
        found = histograms.other_sources | (histograms.documents.keys() - set(absent))
        raise CorpusError(
            f"{corpus}: no document of source {', '.join(map(repr, absent))} (found {some(sorted(found), 8)})"
        )


def _tell_short(name: str, taken: dict[str, dict[str, Any]], short: str) -> None:
    for source, facts in taken.items():
        if facts["is_short"]:
            who = f"source '{source}'"
            consequence = "its share is redistributed" if short == "redistribute" else "the rest is left out"
            if source == WHOLE_CORPUS:
                who, consequence = "the corpus", "all of it is taken"
            console.warn(
                f"{name}: {who} runs short: {facts['available_tokens']:,} tokens of "
                f"{facts['wanted_tokens']:,}; {consequence}"
            )


def _tell_coarse(name: str, taken: dict[str, dict[str, Any]]) -> None:
    tokens, target = (sum(facts[key] for facts in taken.values()) for key in ("tokens", "target_tokens"))
    if abs(tokens - target) > WORTH_TELLING * target:
        console.note(f"{name}: comes to {tokens:,} tokens instead of {target:,}, as documents are taken whole")


def _tell_scaled(ratios: Mapping[str, float]) -> None:
    total = sum(ratios.values())
    if abs(total - 1) > ROUNDING:
        console.note(f"--ratios sum to {total:.6g}: taken in proportion")


def _tokenizer_key(config: MixtureConfig) -> str:
    return tokenizer_fingerprint(config.tokenizer)
