"""A token cache of tokens made elsewhere: their ids are checked and copied once, then trained on as our own are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toremi_cli import console
from toremi_cli.errors import TrainingError
from toremi_cli.files import atomic_folder, read_json, write_json
from toremi_cli.layout import Workdir
from toremi_cli.lm.fingerprint import CACHE_VERSION
from toremi_cli.lm.tokenizer import TokenizerFolder, open_tokenizer
from toremi_cli.provenance import digest
from toremi_cli.schemas import NO_TOPIC, TRAIN
from toremi_cli.train.token_files import Documents, TokenFiles, find_token_files
from toremi_cli.train.tokenizing import SPLITS, PartWriter, numbered
from toremi_cli.train.tokens import TokenCache
from toremi_cli.train.waiting import build_once


def open_foreign_cache(workdir: Path, path: Path, tokenizer_folder: Path, build: bool = True) -> TokenCache:
    """The cache of the tokens at `path`, built first where it is missing (`build`) or waited for.

    Raises:
        TrainingError: see `find_token_files`; an id that the tokenizer doesn't have; no document.
    """
    tokenizer = open_tokenizer(tokenizer_folder)
    files = find_token_files(path, tokenizer)
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files.files]
    fingerprint = digest(CACHE_VERSION, "foreign", stamps, tokenizer.fingerprint)
    folder = Workdir(workdir).tokens / fingerprint

    def write() -> None:
        with atomic_folder(folder) as temporary:
            facts = _write(files, tokenizer, temporary)
            write_json(temporary / "meta.json", {**facts, "fingerprint": fingerprint, "annotated": str(path)})

    build_once(folder, write if build else None)
    cache = TokenCache(folder, read_json(folder / "meta.json"), tokenizer_folder)
    if not cache.meta["num_samples"]:
        raise TrainingError(f"--tokens {path}: no document in it")
    return cache.check_trainable()


def _write(files: TokenFiles, tokenizer: TokenizerFolder, folder: Path) -> dict[str, object]:
    """Write the arrays of a cache; return what `meta.json` says of them."""
    writer = ForeignWriter(folder, tokenizer)
    with console.progress("reading tokens", files.num_documents) as progress:
        for documents in files.documents():
            _check_ids(documents.tokens, files.path, tokenizer)
            writer.add_documents(documents)
            progress.advance(len(documents.length))
    names = writer.close()
    return {
        "num_samples": writer.arrays["length"].length,
        "num_tokens": writer.tokens.length,
        "sources": names["sources"],
        "labels": names["labels"],
        "fine_names": names["labels"],
        "crowding": None,
        "absent": [] if files.has_topics else ["labels", "topic"],
        "eos_id": tokenizer.eos_id,
        "vocab_size": tokenizer.vocab_size,
    }


def _check_ids(tokens: np.ndarray, path: Path, tokenizer: TokenizerFolder) -> None:
    wrong = (tokens < 0) | (tokens >= tokenizer.vocab_size)
    if wrong.any():
        raise TrainingError(
            f"--tokens {path}: has token {int(tokens[wrong][0])}, the tokenizer at {tokenizer.folder} ids from 0 to "
            f"{tokenizer.vocab_size - 1}; name the one that they were made with as --tokenizer"
        )


class ForeignWriter(PartWriter):
    """Appends documents whose tokens are known already. All of them are trained on."""

    def __init__(self, folder: Path, tokenizer: TokenizerFolder) -> None:
        super().__init__(folder, tokenizer)
        # How many bytes a token stands for: a byte is a letter in the vocabulary of a tokenizer of bytes.
        of_token = [len(self.tokenizer.raw.id_to_token(k) or "") for k in range(tokenizer.vocab_size)]
        self.bytes_of_token = np.array(of_token, np.int64)

    def add_documents(self, documents: Documents) -> None:
        """Append documents; an end of text that one has at its end already is not doubled."""
        facts, number = documents.facts, len(documents.length)
        end = np.cumsum(documents.length)
        tokens, length = documents.tokens.astype(np.int64), documents.length
        has_end = length > 0
        has_end[has_end] = tokens[end[has_end] - 1] == self.eos_id
        kept = np.ones(len(tokens), bool)
        kept[end[has_end] - 1] = False
        length = length - has_end
        self.add_tokens(tokens[kept], length)
        if "num_bytes" in facts.schema.names:
            num_bytes = facts.column("num_bytes").to_numpy(zero_copy_only=False)
        else:
            num_bytes = np.bincount(
                np.repeat(np.arange(number), length), self.bytes_of_token[tokens[kept]], number
            ).astype(np.int64)
        self._append("num_bytes", num_bytes)
        self._append("source", numbered(facts.column("source"), self.sources))
        self._append("split", np.full(number, SPLITS[TRAIN]))
        empty = pa.array([[]] * number, pa.list_(pa.string()))
        topics = facts.column("topics") if "topics" in facts.schema.names else empty
        self._add_topics(topics, facts.column("probs") if "probs" in facts.schema.names else None)

    def _add_topics(self, topics: pa.Array, probs: pa.Array | None) -> None:
        """All of them as labels; as one topic the most probable."""
        count = pc.list_value_length(topics).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        row = np.repeat(np.arange(len(count)), count)
        topic = numbered(topics.flatten(), self.labels)
        prob = np.ones(len(topic)) if probs is None else probs.flatten().to_numpy(zero_copy_only=False)
        order = np.lexsort((-prob, row))  # stable: the first of equals
        found, first = np.unique(row[order], return_index=True)
        fine = np.full(len(count), NO_TOPIC)
        fine[found] = topic[order][first]
        self._append("fine_topic", fine)
        self._append("labels_count", count)
        self._append("labels_topic", topic)
