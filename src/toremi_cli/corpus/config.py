"""Settings of `toremi embed`'s first half: how a corpus becomes samples."""

from __future__ import annotations

from dataclasses import dataclass

from toremi_cli.corpus.names import more_endings
from toremi_cli.errors import UsageError

MIN_MAX_TOKENS = 16
"""A sample must be able to hold any one character, in any tokenizer."""
NO_ID_FIELD = "none"
"""`id_field` that says: number the documents by file and line, whatever fields they have."""


@dataclass(frozen=True)
class CorpusConfig:
    """What decides the contents of the table `samples`, besides the corpus."""

    text_field: str | None = None
    """Field or column that holds the text; None: the first of `text`, `content`, `body`, … that is there."""
    source_field: str | None = None
    """Field that names a document's source; None: its `source` field, else its sub-folder, else its file."""
    id_field: str | None = None
    """Field that identifies a document; None: its `id` field if it has one; 'none': always file path and line."""
    ext: str | None = None
    """Endings of files to read as text besides the usual ones, or instead of as rows: 'html,toml'."""
    group_field: str | None = None
    """Field that names what a document is a piece of (a book, a repository): the split keeps a group on one side."""
    on_error: str = "fail"
    """A broken line or file: 'fail' stops, 'skip' passes over it and counts it."""
    max_tokens: int = 1024
    """Longest sample, in tokens."""
    tokenizer: str | None = None
    """A local path or a hub name; None: a byte-level BPE trained on the training split."""
    vocab_size: int = 16384
    """Vocabulary of the tokenizer that is trained, in entries; a small corpus gets fewer."""
    holdout: float = 0.01
    """Share of the documents held out, half of it for validation and half for test."""
    shard_samples: int = 50_000
    """Rows in a Parquet shard, at most (a shard also ends at 64 MB of text)."""
    seed: int = 0
    """Seed of the sample that the tokenizer is trained on. The held-out split does not depend on it."""

    def __post_init__(self) -> None:
        more_endings(self.ext)
        if self.on_error not in ("fail", "skip"):
            raise UsageError(f"--on-error {self.on_error}: expected 'fail' or 'skip'")
        if self.max_tokens < MIN_MAX_TOKENS:
            raise UsageError(f"--max-tokens {self.max_tokens}: expected {MIN_MAX_TOKENS} or more")
        if not 0 <= self.holdout <= 0.5:
            raise UsageError(f"--holdout {self.holdout}: expected a share of the documents from 0 to 0.5")
        if self.vocab_size < 257 and self.tokenizer is None:
            raise UsageError(
                f"--vocab-size {self.vocab_size}: expected 257 or more (256 bytes and the end-of-text token)"
            )
        if self.shard_samples < 1:
            raise UsageError(f"--shard-samples {self.shard_samples}: expected 1 or more")
