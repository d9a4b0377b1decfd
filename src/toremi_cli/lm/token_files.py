"""How files of tokens are laid out, for whoever writes or reads them: Megatron's `.idx`, and what lies beside them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

RECORD, DOCUMENTS = "_tokens.json", "documents.parquet"
"""Beside the tokens: what they are, and each document's part, place, length, source and topics."""
MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<QBQQ")
"""Version, data type, sequences, documents + 1."""
DTYPES = {1: "u1", 4: "<i4", 5: "<i8", 8: "<u2"}
"""Of an .idx (megatron/core/datasets/indexed_dataset.py, `DType`), those that ids are kept in."""
_BEGIN = len(MAGIC) + HEADER.size


def write_index(path: Path, lengths: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Write a Megatron .idx: (num_documents,) int32 lengths in tokens of documents that are one sequence each."""
    number = len(lengths)
    code = next(code for code, known in DTYPES.items() if np.dtype(known) == dtype)
    pointers = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)]) * dtype.itemsize
    with path.open("wb") as file:
        file.write(MAGIC + HEADER.pack(1, code, number, number + 1))
        for values, kind in ((lengths, "<i4"), (pointers, "<i8"), (np.arange(number + 1), "<i8")):
            file.write(values.astype(kind).tobytes())


def read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the sequences, (n,) int32, and the tokens of a Megatron dataset, mapped.

    Raises:
        ValueError: no such index, or one of the two files is cut short.
    """
    data = path.with_suffix(".bin")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("no index of Megatron-LM")
        try:
            version, code, number, documents = HEADER.unpack(file.read(HEADER.size))
        except struct.error:
            raise ValueError("its header is cut short; copy it again") from None
    if version != 1 or code not in DTYPES:
        raise ValueError(f"version {version} with data type {code}; expected 1 with {sorted(DTYPES)}")
    check_size(path, _BEGIN + 12 * number + 8 * documents)
    lengths = np.memmap(path, "<i4", "r", _BEGIN, (number,)) if number else np.zeros(0, "<i4")
    dtype, total = np.dtype(DTYPES[code]), int(lengths.sum(dtype=np.int64))
    check_size(data, total * dtype.itemsize)
    return lengths, np.memmap(data, dtype, "r") if total else np.zeros(0, dtype)


def check_size(file: Path, expected: int) -> None:
    """Refuse a file of another size.

    Raises:
        ValueError: it has one.
    """
    found = file.stat().st_size
    if found != expected:
        raise ValueError(f"{file.name} has {found:,} bytes, {expected:,} expected: cut short? copy it again")
