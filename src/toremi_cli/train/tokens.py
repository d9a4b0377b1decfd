"""The token cache: the annotated corpus as the trainer reads it, built once and memory-mapped.

`workdir/tokens/FINGERPRINT/` holds flat arrays, written by `tokenizing`. `tokens.npy` has each sample's tokens followed
by an end-of-text token, in the order of the table; `offset[i]` is where sample i begins and `length[i]` how many tokens
it has without the end-of-text token. Topics are kept for each way of choosing them, as CSR rows (`labels`) or one
id a sample; `index_folder` makes of them what a run looks up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli.engine import default_workers
from toremi_cli.errors import TrainingError
from toremi_cli.files import read_json
from toremi_cli.layout import Workdir
from toremi_cli.lm.fingerprint import data_fingerprint
from toremi_cli.lm.tokenizer import open_tokenizer
from toremi_cli.provenance import digest
from toremi_cli.reweight.strata import chunks_of
from toremi_cli.sample_topics import check_together, read_fine_topics
from toremi_cli.schemas import ANNOTATED, TRAIN
from toremi_cli.tables import TableReader
from toremi_cli.train.npy import read_npy
from toremi_cli.train.token_store import TokenStore
from toremi_cli.train.tokenizing import SPLITS, write_tokens
from toremi_cli.train.waiting import PATIENCE_SECONDS, build_once

ROWS_PER_WORKER = 20_000
"""For fewer samples a process takes longer to start than it saves."""


@dataclass(frozen=True)
class TokenCache:
    """A finished cache, memory-mapped."""

    folder: Path
    meta: dict[str, Any]
    tokenizer: Path
    """Folder of the tokenizer that made them."""
    store: TokenStore | None = None
    """Where the tokens are, if not in the folder."""

    def array(self, name: str) -> np.ndarray:
        """One of the flat arrays."""
        return read_npy(self.folder / f"{name}.npy")

    @property
    def fingerprint(self) -> str:
        """Identifies corpus, topics and tokenizer."""
        return str(self.meta["fingerprint"])

    @property
    def order_key(self) -> str:
        """What random orders are keyed by: how much text there is.

        Not the fingerprint, which changes with the times of the corpus' files: the same text comes in the same order.
        """
        return digest(len(self.length), int(self.offset[-1]) + int(self.length[-1]))

    @property
    def sources(self) -> list[str]:
        """Names of the sources; `source` holds indices into them."""
        return list(self.meta["sources"])

    @cached_property
    def tokens(self) -> np.ndarray:
        """All tokens, uint16 or uint32."""
        return self.array("tokens")

    @cached_property
    def offset(self) -> np.ndarray:
        """(num_samples,) where each sample begins in `tokens`."""
        return self.array("offset")

    @cached_property
    def length(self) -> np.ndarray:
        """(num_samples,) tokens of each sample, without its end-of-text token."""
        return self.array("length")

    @cached_property
    def num_bytes(self) -> np.ndarray:
        """(num_samples,) bytes of each sample's text."""
        return self.array("num_bytes")

    @cached_property
    def split(self) -> np.ndarray:
        """(num_samples,) number of each sample's split, by `SPLITS`."""
        return self.array("split")

    @cached_property
    def source(self) -> np.ndarray:
        """(num_samples,) index of each sample's source."""
        return self.array("source")

    def is_of(self, split: str, part: slice) -> np.ndarray:
        """(n,) bool of a stretch of samples: whether they are of a split and have any token."""
        of_split: np.ndarray = self.split[part] == SPLITS[split]
        return of_split & (self.length[part] > 0)

    def read(self, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """(sum of `lengths`,) tokens of the stretches of (n,) `lengths` that begin at (n,) `begins`, end to end.

        Raises:
            TrainingError: they are behind a URL, and can't be had.
        """
        return self.store.read(begins, lengths) if self.store else stretches(self.tokens, begins, lengths)

    def texts(self, samples: np.ndarray) -> list[np.ndarray]:
        """The tokens of each of some samples, without the end-of-text token."""
        length = self.length[samples]
        return np.split(self.read(self.offset[samples], length), np.cumsum(length)[:-1])

    def sample_tokens(self, sample: int) -> np.ndarray:
        """Those of one sample."""
        return self.texts(np.array([sample]))[0]

    def check_trainable(self) -> TokenCache:
        """Itself.

        Raises:
            TrainingError: no sample to train on.
        """
        if any(self.is_of(TRAIN, part).any() for part in chunks_of(len(self.length))):
            return self
        raise TrainingError(
            f"{self.meta['annotated']}: no sample to train on ({self.meta['num_samples']} rows, none of split "
            f"'{TRAIN}' with text)"
        )


def stretches(tokens: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """What `TokenCache.read` returns, of an array of all tokens."""
    pieces = [tokens[b : b + n] for b, n in zip(begins.tolist(), lengths.tolist(), strict=True)]
    return np.concatenate(pieces) if pieces else tokens[:0]


def open_cache(
    workdir: Path,
    annotated: Path,
    tokenizer_folder: Path,
    build: bool = True,
    patience_seconds: float = PATIENCE_SECONDS,
    workers: int | None = None,
    engine: str = "local",
) -> TokenCache:
    """Open the token cache, building it first where it is missing or stale.

    Args:
        workdir: `tokens/` in it holds the caches.
        annotated: the table.
        tokenizer_folder: the tokenizer.
        build: False to wait until another process has built it.
        patience_seconds: how long to wait while nothing of it grows.
        workers: processes to build it with; None for every core, as far as there is work for it.
        engine: where they are.

    Raises:
        TrainingError: no table, no tokenizer, nothing to train on, or nobody builds it.
        TableError: the table is damaged or another one.
    """
    if not annotated.exists():
        raise TrainingError(f"{annotated}: no such table; run `toremi annotate CORPUS --workdir {workdir}` first")
    reader = TableReader(annotated, ANNOTATED)
    tokenizer = open_tokenizer(tokenizer_folder)
    check_together(reader, workdir / "topics.parquet")
    topics = read_fine_topics(workdir / "topics.parquet")
    fingerprint = data_fingerprint(reader, tokenizer, topics)
    folder = Workdir(workdir).tokens / fingerprint

    def write() -> None:
        many = workers or min(default_workers(), 1 + reader.num_rows // ROWS_PER_WORKER)
        write_tokens(folder, reader, tokenizer, topics, fingerprint, workers=many, engine=engine)

    build_once(folder, write if build else None, patience_seconds)
    return TokenCache(folder, read_json(folder / "meta.json"), tokenizer_folder).check_trainable()
