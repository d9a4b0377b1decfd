"""Settings of `toremi embed`'s first half: how a corpus becomes samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from toremi_cli.corpus.names import more_endings
from toremi_cli.engine import SEED
from toremi_cli.errors import UsageError
from toremi_cli.settings import Setting, problem_of

MIN_MAX_TOKENS = 16
"""A sample must be able to hold any one character, in any tokenizer."""
NO_ID_FIELD = "none"
"""`id_field` that says: number the documents by file and line, whatever fields they have."""
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
