"""The annotated corpus as the token files of other trainers, with the topics of each sample beside them.

    megatron   NAME_text_document.bin, .idx      Megatron-LM's indexed dataset, one document a sample
    numpy      NAME/part-00000.npy               bare tokens, as OLMo-core and llm.c map them: no header

Every sample ends with the end-of-text token. Token ids are uint16 where the vocabulary allows, else int32 (Megatron has
no uint32) or uint32. `documents.parquet` has a row for each sample: its part, place and length in it, and its topics.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from toremi_cli import console
from toremi_cli.errors import TableError, UsageError
from toremi_cli.export.formats import file_names
from toremi_cli.export.shares import part_of, training_rows
from toremi_cli.files import output_folder, write_json
from toremi_cli.lm.token_files import DOCUMENTS, RECORD, write_index
from toremi_cli.lm.tokenizer import TokenizerFolder, open_tokenizer
from toremi_cli.sample_topics import SampleTopics
from toremi_cli.tables import ShardWriter

FORMATS = ("megatron", "numpy")
BATCH_ROWS = 1024
SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("begin", pa.int64()),
        ("num_tokens", pa.int32()),
        ("sample_id", pa.string()),
        ("doc_id", pa.string()),
        ("source", pa.string()),
        ("num_bytes", pa.int64()),
        ("topics", pa.list_(pa.string())),
        ("probs", pa.list_(pa.float64())),
    ]
)


def write_tokens(
    annotated: Path, topics: SampleTopics, tokenizer_folder: Path, by: str, file_format: str, out: Path
) -> dict[str, Any]:
    """Tokenize the training samples once, each into the file of its source or topic.

    Args:
        annotated: the table.
        topics: chooses a sample's topics; one that has several goes to one of them, by a hash of its id.
        tokenizer_folder: the corpus' tokenizer, or another.
        by: parts by 'source' or 'topic'.
        file_format: one of `FORMATS`.
        out: a folder that is new, empty, or an earlier such export.

    Returns:
        what was written, with the tokens of each part.

    Raises:
        UsageError: unknown format, or the folder holds something else.
        TableError: no training samples.
    """
    if file_format not in FORMATS:
        raise UsageError(f"--format {file_format}: expected {' or '.join(FORMATS)} with --to tokens")
    if out.exists() and any(out.iterdir()) and not (out / RECORD).exists():
        raise UsageError(f"{out}: is not empty and no such export of toremi; name another folder with --output")
    tokenizer = open_tokenizer(tokenizer_folder)
    columns = ["split", "source", "sample_id", *topics.columns]
    names = {part_of(row, topics.of(row), by) for row in training_rows(annotated, columns)}
    if not names:
        raise TableError(f"{annotated}: no training samples there; annotate a corpus first")
    with output_folder(out) as folder, console.progress("tokenizing", unit="samples") as bar:
        writer = _TokenWriter(folder, tokenizer, file_format, file_names(sorted(names)))
        for rows in _batches(annotated, [*columns, "doc_id", "text", "num_bytes"]):
            writer.add(rows, topics, by)
            bar.advance(len(rows))
        record = {"format": file_format, "by": by, **writer.close()}
        write_json(folder / RECORD, record)
    return {"output": str(out), **record}


def _batches(annotated: Path, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    rows = training_rows(annotated, columns)
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch


class _TokenWriter:
    """Appends samples to the files of their parts; of each part only its lengths are held."""

    def __init__(self, folder: Path, tokenizer: TokenizerFolder, file_format: str, names: dict[str, str]) -> None:
        self.folder, self.tokenizer, self.encoder = folder, tokenizer, tokenizer.load()
        self.is_megatron = file_format == "megatron"
        wide = np.int32 if self.is_megatron else np.uint32
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else wide).newbyteorder("<")
        self.paths = {name: self._path(path) for name, path in names.items()}
        self.lengths = {name: array("i") for name in names}
        self.num_tokens = dict.fromkeys(names, 0)
        self.documents = ShardWriter(str(folder / DOCUMENTS), SCHEMA)

    def _path(self, name: str) -> Path:
        if self.is_megatron:
            return self.folder / f"{name}_text_document.bin"
        (self.folder / name).mkdir()
        return self.folder / name / "part-00000.npy"

    def add(self, rows: list[dict[str, Any]], topics: SampleTopics, by: str) -> None:
        """Append samples."""
        encoded = self.encoder.ids([row["text"] for row in rows])
        found: dict[str, list[np.ndarray]] = {}
        documents = []
        for row, ids in zip(rows, encoded, strict=True):
            own = topics.of(row)
            part = part_of(row, own, by)
            tokens = np.array([*ids, self.tokenizer.eos_id], self.dtype)
            place = {"part": part, "begin": self.num_tokens[part], "num_tokens": len(tokens)}
            shown = {key: row[key] for key in ("sample_id", "doc_id", "source", "num_bytes")}
            documents.append({**place, **shown, "topics": list(own), "probs": list(own.values())})
            self.num_tokens[part] += len(tokens)
            self.lengths[part].append(len(tokens))
            found.setdefault(part, []).append(tokens)
        for part, pieces in found.items():  # there may be more parts than files may be open
            with self.paths[part].open("ab") as file:
                file.write(np.concatenate(pieces).tobytes())
        self.documents.write(documents)

    def close(self) -> dict[str, Any]:
        """Write the indices; return what the record says."""
        self.documents.close()
        if self.is_megatron:
            for part, path in self.paths.items():
                write_index(path.with_suffix(".idx"), np.array(self.lengths[part], np.int32), self.dtype)
        facts: dict[str, Any] = {"dtype": self.dtype.name, "tokenizer": self.tokenizer.fingerprint}
        facts |= {"eos_id": self.tokenizer.eos_id, "vocab_size": self.tokenizer.vocab_size}
        files = {name: str(path.relative_to(self.folder)) for name, path in self.paths.items()}
        parts = [{"part": name, "file": files[name], "tokens": count} for name, count in self.num_tokens.items()]
        return {**facts, "parts": parts}
