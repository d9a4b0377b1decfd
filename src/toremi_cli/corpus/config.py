"""Settings of what reads a corpus or its samples: the first half of `toremi embed`, `sample` and `corrupt`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from toremi_cli.corpus.names import more_endings
from toremi_cli.engine import SEED
from toremi_cli.errors import UsageError
from toremi_cli.settings import Setting, problem_of

MIN_MAX_TOKENS = 16
"""A sample must be able to hold any one character, in any tokenizer."""
NO_ID_FIELD = "none"
"""`id_field` that says: number the documents by file and line, whatever fields they have."""
COUNT_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_CORPUS, _SAMPLES = "Corpus", "Samples and tokenizer"


@dataclass(frozen=True)
class CorpusConfig:
    """What decides the contents of the table `samples`, besides the corpus."""

    text_field: Annotated[
        str | None,
        Setting("Field that holds the text; meta.body: in an object.", _CORPUS, unset="text, content, body, …"),
    ] = None
    source_field: Annotated[
        str | None,
        Setting("Field that names the source.", _CORPUS, unset="`source`, else sub-folder, else file"),
    ] = None
    id_field: Annotated[
        str | None,
        Setting("Field that identifies a document; 'none': file and line.", _CORPUS, unset="`id`, else file and line"),
    ] = None
    ext: Annotated[
        str | None,
        Setting(
            "Endings to read as text, e.g. html,json.",
            _CORPUS,
            metavar="NAME,…",
            unset="txt, md, rst, tex and source code",
        ),
    ] = None
    group_field: Annotated[
        str | None,
        Setting(
            "Field that names what a document is a piece of (a book, a repository); held out whole.",
            _CORPUS,
            unset="none",
        ),
    ] = None
    on_error: Annotated[str, Setting("What a broken line or file does", _CORPUS, choices=("fail", "skip"))] = "fail"
    max_tokens: Annotated[int, Setting("Longest sample, in tokens.", _SAMPLES, least=MIN_MAX_TOKENS)] = 1024
    tokenizer: Annotated[
        str | None,
        Setting(
            "A local path or a hub name.",
            _SAMPLES,
            metavar="PATH|NAME",
            unset="a byte-level BPE trained on the training split",
        ),
    ] = None
    vocab_size: Annotated[int, Setting("Entries of a trained tokenizer, at most.", _SAMPLES, least=257)] = 16384
    """256 bytes and the end-of-text token at least; a small corpus gets fewer."""
    holdout: Annotated[
        float,
        Setting("Share of the documents held out, half validation, half test.", _SAMPLES, least=0, most=0.5),
    ] = 0.01
    shard_samples: Annotated[int, Setting("Rows of a Parquet shard, at most.", _SAMPLES, least=1)] = 50_000
    """A shard also ends at 64 MB of text."""
    seed: Annotated[int, SEED] = 0
    """Of the sample that the tokenizer is trained on. The held-out split does not depend on it."""

    def __post_init__(self) -> None:
        if problem := problem_of(self):
            raise UsageError(problem)
        more_endings(self.ext)


NOISES = ("shuffle-chars", "shuffle-words", "random-tokens", "truncate", "boilerplate", "mark")
"""What may be planted; `mark` plants nothing."""


@dataclass(frozen=True)
class CorruptionConfig:
    """Settings of `toremi corrupt`: what is planted, and where."""

    topic: Annotated[str, Setting("Label, fine topic or source whose samples are corrupted (see --by).")]
    kind: Annotated[str, Setting("What is done to them (mark: nothing)", choices=NOISES)] = "shuffle-chars"
    by: Annotated[str, Setting("What --topic names", choices=("label", "topic", "source"))] = "label"
    fraction: Annotated[float, Setting("Share of its samples.", above=0, most=1)] = 1.0
    seed: Annotated[int, Setting("Decides which samples, and how.")] = 0
    held_out: Annotated[bool, Setting("Corrupt the validation and test splits as well.")] = False

    def __post_init__(self) -> None:
        if problem := problem_of(self):
            raise UsageError(problem)


WHOLE_CORPUS = "whole corpus"
"""What `toremi sample` draws from where no source has a share of its own."""


@dataclass(frozen=True)
class MixtureConfig:
    """Settings of `toremi sample`: what is drawn."""

    tokens: Annotated[str, Setting("Targets, e.g. 2.6B,7.2B; each contains the smaller.", metavar="N,…")]
    ratios: Annotated[
        str | None,
        Setting("Share of each source in the tokens.", metavar="SOURCE:SHARE,…", unset="as the corpus has them"),
    ] = None
    """They are scaled to sum to 1."""
    short: Annotated[
        str,
        Setting("What becomes of a share that its source is too small to fill", choices=("leave", "redistribute")),
    ] = "leave"
    tokenizer: Annotated[
        str | None,
        Setting("Count tokens exactly with this one.", metavar="PATH|NAME", unset="estimated from bytes by source"),
    ] = None
    seed: Annotated[int, Setting("Decides which documents are taken.")] = 0

    def __post_init__(self) -> None:
        if (problem := problem_of(self)) or not (self.ratio_of and self.targets):
            raise UsageError(problem or "--ratios and --tokens: expected one or more of each")

    @cached_property
    def ratio_of(self) -> dict[str, float]:
        """The ratios by source, whose name may hold colons; of the whole corpus, if all are drawn alike.

        Raises:
            UsageError: not of the form 'books:0.2,web:0.8', or a source named twice.
        """
        if self.ratios is None:
            return {WHOLE_CORPUS: 1.0}
        ratios: dict[str, float] = {}
        for part in _parts(self.ratios):
            name, _, value = part.rpartition(":")
            try:
                ratio = float(value)
            except ValueError:
                ratio = math.nan
            if not name or not math.isfinite(ratio) or ratio <= 0:
                raise UsageError(f"--ratios: {part!r} is not SOURCE:SHARE with a share above 0, such as web:0.8")
            if name in ratios:
                raise UsageError(f"--ratios: source {name!r} stands there twice")
            ratios[name] = ratio
        return ratios

    def drawn_as(self, source: str) -> str | None:
        """Under which name of `ratio_of` a source's documents are drawn; None if they aren't."""
        name = WHOLE_CORPUS if self.ratios is None else source
        return name if name in self.ratio_of else None

    @cached_property
    def targets(self) -> dict[str, float]:
        """Numbers of tokens by their names ('2.6B')."""
        return {name: token_count(name) for name in _parts(self.tokens)}

    def shares(self) -> dict[str, float]:
        """The ratios, summing to 1."""
        total = sum(self.ratio_of.values())
        return {source: ratio / total for source, ratio in self.ratio_of.items()}


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def token_count(text: str) -> float:
    """'2.6B' as a number of tokens.

    Raises:
        UsageError: not a number of at least 1.
    """
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    try:
        count = float(text[: len(text) - len(unit)]) * COUNT_UNITS[unit]
    except (ValueError, KeyError):
        count = math.nan
    if not 1 <= count < math.inf:
        raise UsageError(f"--tokens {text}: expected a number of tokens such as 500K, 20M or 2.6B")
    return count
