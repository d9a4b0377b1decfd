"""Tokens made elsewhere: Megatron's `.bin/.idx`, and bare numpy shards with `documents.parquet` beside them.

Where `toremi export --to tokens` wrote them, `documents.parquet` names each document's part, place, length, source and
topics, and `_tokens.json` the parts and the tokenizer. A Megatron dataset alone has neither: its name is the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toremi_cli.errors import TrainingError, reason
from toremi_cli.files import read_json
from toremi_cli.lm.token_files import DOCUMENTS, RECORD, check_size, read_index
from toremi_cli.lm.tokenizer import TokenizerFolder

BATCH_ROWS = 1 << 14


@dataclass(frozen=True)
class Documents:
    """Some documents, one after another."""

    tokens: np.ndarray
    """(num_tokens,) ids."""
    length: np.ndarray
    """(n,) int64 tokens of each."""
    facts: pa.RecordBatch
    """`source`; where they are known `topics`, `probs` and `num_bytes`."""


@dataclass(frozen=True)
class TokenFiles:
    """Files of tokens, and what lies beside them."""

    path: Path
    parts: dict[str, np.ndarray]
    """Tokens of each part, mapped."""
    lengths: dict[str, np.ndarray]
    """(num_documents,) of each part that has an .idx."""
    files: list[Path]
    """All that were found, for the fingerprint."""

    @property
    def sidecar(self) -> pq.ParquetFile | None:
        """The table of documents, if there is one."""
        file = (self.path if self.path.is_dir() else self.path.parent) / DOCUMENTS
        return pq.ParquetFile(file) if file in self.files else None

    @property
    def num_documents(self) -> int:
        """How many there are."""
        sidecar = self.sidecar
        return sidecar.metadata.num_rows if sidecar else sum(map(len, self.lengths.values()))

    @property
    def has_topics(self) -> bool:
        """Whether the documents' topics are known."""
        return self.sidecar is not None and "topics" in self.sidecar.schema_arrow.names

    def documents(self) -> Iterator[Documents]:
        """All documents: in the sidecar's order, or part after part.

        Raises:
            TrainingError: a document reaches beyond its part.
        """
        yield from self._by_sidecar(self.sidecar) if self.sidecar else self._by_index()

    def _by_sidecar(self, sidecar: pq.ParquetFile) -> Iterator[Documents]:
        row = 0
        for facts in sidecar.iter_batches(BATCH_ROWS):
            places = [facts.column(name).to_pylist() for name in ("part", "begin", "num_tokens")]
            pieces = []
            for part, begin, length in zip(*places, strict=True):
                whole = self.parts.get(part, np.zeros(0, np.uint16))
                if begin + length > len(whole):
                    raise TrainingError(
                        f"{self.path / DOCUMENTS}: row {row} ends at token {begin + length} of part {part!r}, which "
                        f"has {len(whole)}; expected the files that it was written with"
                    )
                pieces.append(whole[begin : begin + length])
                row += 1
            yield Documents(np.concatenate(pieces), np.array(places[2], np.int64), facts)

    def _by_index(self) -> Iterator[Documents]:
        for part, lengths in self.lengths.items():
            end = 0
            for first in range(0, len(lengths), BATCH_ROWS):
                length = lengths[first : first + BATCH_ROWS].astype(np.int64)
                begin, end = end, end + int(length.sum())
                facts = pa.RecordBatch.from_pydict({"source": [part] * len(length)})
                yield Documents(self.parts[part][begin:end], length, facts)


def find_token_files(path: Path, tokenizer: TokenizerFolder) -> TokenFiles:
    """Open what `--tokens` names: a folder, or a Megatron dataset by its prefix, `.bin` or `.idx`.

    Raises:
        TrainingError: nothing there that can be read, a file is cut short, or the tokens are another tokenizer's.
    """
    prefix = path.with_suffix("") if path.suffix in (".bin", ".idx") else path
    indices = sorted(path.glob("*.idx")) if path.is_dir() else [prefix.with_name(f"{prefix.name}.idx")]
    folder = path if path.is_dir() else path.parent
    record = _record(folder / RECORD, tokenizer) if path.is_dir() else {}
    named = {folder / part["file"]: part for part in record.get("parts", ())}
    sidecar = [folder / DOCUMENTS] if path.is_dir() and (folder / DOCUMENTS).is_file() else []
    if indices and all(index.is_file() for index in indices):
        opened = {index.with_suffix(".bin"): _indexed(index) for index in indices}
        parts = {_name(file, named): tokens for file, (_, tokens) in opened.items()}
        lengths = {_name(file, named): found for file, (found, _) in opened.items()}
        return TokenFiles(path, parts, lengths, [*indices, *opened, *sidecar])
    shards = sorted(named) or sorted(path.rglob("*.npy"))
    if not (path.is_dir() and shards and sidecar):
        raise TrainingError(
            f"--tokens {path}: expected a Megatron dataset (.bin and .idx), or a folder of .npy shards with "
            f"{DOCUMENTS}, as `toremi export --to tokens` writes them, or what `toremi tokenize -o` writes"
        )
    dtype = np.dtype(record.get("dtype", "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"))
    parts = {_name(file, named): _bare(file, dtype, named.get(file)) for file in shards}
    return TokenFiles(path, parts, {}, [*shards, *sidecar])


def _name(file: Path, named: dict[Path, dict[str, Any]]) -> str:
    """Name of the part that a file holds: the record's, or its own."""
    return str(named[file]["part"]) if file in named else file.stem.removesuffix("_text_document")


def _record(file: Path, tokenizer: TokenizerFolder) -> dict[str, Any]:
    """What `toremi export` said of its files, if it wrote them."""
    if not file.is_file():
        return {}
    record: dict[str, Any] = read_json(file)
    for key in ("tokenizer", "vocab_size", "eos_id"):
        own = tokenizer.fingerprint if key == "tokenizer" else getattr(tokenizer, key)
        if record.get(key, own) != own:
            raise TrainingError(
                f"{file}: tokens of another tokenizer ({key} is {record[key]}, that of {tokenizer.folder} {own}); "
                "name theirs with --tokenizer"
            )
    return record


def _indexed(index: Path) -> tuple[np.ndarray, np.ndarray]:
    """`read_index`, its faults in one line."""
    try:
        return read_index(index)
    except (OSError, ValueError) as problem:
        raise TrainingError(f"{index}: {reason(problem)}") from None


def _bare(file: Path, dtype: np.dtype[Any], said: dict[str, Any] | None) -> np.ndarray:
    """Tokens of a file without a header, or of a .npy with one; mapped."""
    try:
        if said is not None:
            check_size(file, said["tokens"] * dtype.itemsize)
        with file.open("rb") as opened:
            has_header = opened.read(6) == b"\x93NUMPY"
        if has_header:
            return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
        return np.memmap(file, dtype, "r") if file.stat().st_size else np.zeros(0, dtype)
    except (OSError, ValueError) as problem:
        raise TrainingError(f"{file}: {reason(problem)}") from None
