"""The token cache: the annotated corpus as the trainer reads it, built once and memory-mapped.

`workdir/tokens/FINGERPRINT/` holds flat arrays, written by `tokenizing`. `tokens.npy` has each sample's tokens followed
by an end-of-text token, in the order of the table; `offset[i]` is where sample i begins and `length[i]` how many tokens
it has without the end-of-text token. Topics are kept for each way of choosing them, as CSR rows (`labels`) or one
id a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from toremi_cli.engine import default_workers
from toremi_cli.errors import TrainingError, UsageError
from toremi_cli.files import read_json
from toremi_cli.layout import Workdir
from toremi_cli.lm.fingerprint import data_fingerprint
from toremi_cli.lm.tokenizer import open_tokenizer
from toremi_cli.locks import lock_beside, locked
from toremi_cli.sample_topics import read_fine_topics
from toremi_cli.schemas import ANNOTATED, NO_TOPIC, TRAIN
from toremi_cli.tables import TableReader
from toremi_cli.train.npy import read_npy
from toremi_cli.train.tokenizing import SPLITS, write_tokens
from toremi_cli.train.waiting import PATIENCE_SECONDS, wait_for

ROWS_PER_WORKER = 20_000
"""For fewer samples a process takes longer to start than it saves."""
MODE_COLUMNS = {"labels": "labels", "fine": "topic", "source": "source"}
"""What each of `policy_config.TOPIC_MODES` reads of the annotated table."""


@dataclass(frozen=True)
class TopicPairs:
    """Which samples carry which topics: sample i's pairs are `indptr[i]:indptr[i+1]` of `topic` and `prob`."""

    names: list[str]
    indptr: np.ndarray
    """(num_samples + 1,) int64"""
    topic: np.ndarray
    """(num_pairs,) int32, index into `names`"""
    prob: np.ndarray
    """(num_pairs,) float32; 1 for hard topics"""
    crowding: list[float] | None = None
    """For each of `names` how many topics are of its kind, itself included; None where table `topics` doesn't tell."""


@dataclass(frozen=True)
class TokenCache:
    """A finished cache, memory-mapped."""

    folder: Path
    meta: dict[str, Any]

    def array(self, name: str) -> np.ndarray:
        """One of the flat arrays."""
        return read_npy(self.folder / f"{name}.npy")

    @property
    def fingerprint(self) -> str:
        """Identifies corpus, topics and tokenizer."""
        return str(self.meta["fingerprint"])

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
    def source(self) -> np.ndarray:
        """(num_samples,) index of each sample's source."""
        return self.array("source")

    def samples_of(self, split: str) -> np.ndarray:
        """(n,) int64 indices of the samples of a split that have any token, in table order."""
        return np.flatnonzero((self.array("split") == SPLITS[split]) & (self.length > 0))

    def sample_tokens(self, sample: int) -> np.ndarray:
        """The tokens of one sample, without the end-of-text token."""
        start = int(self.offset[sample])
        return self.tokens[start : start + int(self.length[sample])]

    def topic_pairs(self, mode: str) -> TopicPairs:
        """The topics by one of `policy_config.TOPIC_MODES`; topics without a training sample are left out.

        Raises:
            UsageError: the table has no column for this mode.
        """
        column = MODE_COLUMNS[mode]
        if column in self.meta.get("absent", ()):
            others = [other for other, needed in MODE_COLUMNS.items() if needed not in self.meta["absent"]]
            raise UsageError(
                f"--topics {mode}: {self.meta['annotated']} has no column '{column}'; add it"
                + (f", or use --topics {' or '.join(others)}" if others else "")
            )
        crowding = None
        if mode == "source":
            count, topic, names = np.ones(len(self.source), np.int64), self.source, self.sources
        elif mode == "fine":
            fine = self.array("fine_topic")
            count, topic, names = (fine != NO_TOPIC).astype(np.int64), fine[fine != NO_TOPIC], self.meta["fine_names"]
            crowding = self.meta["crowding"]
        else:
            count, topic = self.array("labels_count").astype(np.int64), self.array("labels_topic")
            names = self.meta["labels"]
        return _keep_trained(names, count, topic, crowding, self.array("split") == SPLITS[TRAIN])


def _keep_trained(
    names: list[str],
    count: np.ndarray,
    topic: np.ndarray,
    crowding: list[float] | None,
    is_train: np.ndarray,
) -> TopicPairs:
    """Renumber the topics that training samples carry as 0, 1, … and drop the pairs of the others."""
    trained = np.zeros(len(names), bool)
    trained[topic[np.repeat(is_train, count)]] = True
    kept = trained[topic]
    kept_before = np.concatenate([[0], np.cumsum(kept)])
    indptr = kept_before[np.concatenate([[0], np.cumsum(count)])].astype(np.int64)
    new_id = (np.cumsum(trained) - 1).astype(np.int32)
    used = np.flatnonzero(trained).tolist()
    of_used = None if crowding is None else [crowding[k] for k in used]
    found = new_id[topic[kept]]
    return TopicPairs([names[k] for k in used], indptr, found, np.ones(len(found), np.float32), of_used)


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
    topics = read_fine_topics(workdir / "topics.parquet")
    fingerprint = data_fingerprint(reader, tokenizer, topics)
    folder = Workdir(workdir).tokens / fingerprint
    if not build:
        wait_for(folder, "meta.json", patience_seconds)
    elif not (folder / "meta.json").is_file():
        with locked(lock_beside(folder), folder, "let it end", wait_seconds=math.inf):
            if not (folder / "meta.json").is_file():  # else the process that held the lock has built it
                many = workers or min(default_workers(), 1 + reader.num_rows // ROWS_PER_WORKER)
                write_tokens(folder, reader, tokenizer, topics, fingerprint, workers=many, engine=engine)
    cache = TokenCache(folder, read_json(folder / "meta.json"))
    if len(cache.samples_of(TRAIN)) == 0:
        raise TrainingError(
            f"{annotated}: no sample to train on ({cache.meta['num_samples']} rows, none of split '{TRAIN}' with text)"
        )
    return cache
