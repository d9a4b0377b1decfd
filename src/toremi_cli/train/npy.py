"""`.npy` files that grow: written array by array in bounded memory, read by memory map, never pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format


class NpyAppender:
    """Writes a one-dimensional `.npy` file piece by piece."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, values: Any) -> None:
        """Add values at the end."""
        array = np.ascontiguousarray(values, dtype=self.dtype)
        self._file.write(array.tobytes())
        self.length += array.size

    def close(self) -> None:
        """Write the final length into the header."""
        self._file.seek(0)
        self._write_header()  # numpy leaves room for a longer shape, so the header keeps its size
        self._file.close()

    def _write_header(self) -> None:
        header = {"shape": (self.length,), "fortran_order": False, "descr": npy_format.dtype_to_descr(self.dtype)}
        npy_format.write_array_header_1_0(self._file, header)


def new_npy(path: Path, length: int, dtype: Any) -> np.ndarray:
    """A `.npy` file of zeros, mapped to be written."""
    if length == 0:
        np.save(path, np.zeros(0, dtype))  # an empty file cannot be mapped
        return np.zeros(0, dtype)
    return np.asarray(npy_format.open_memmap(path, "w+", np.dtype(dtype), (length,)))


def read_npy(path: Path) -> np.ndarray:
    """Memory-map a `.npy` file as a plain array (no `memmap` overhead on each slice)."""
    if path.stat().st_size <= _header_size(path):
        return np.load(path, allow_pickle=False)  # an empty file cannot be mapped
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _header_size(path: Path) -> int:
    with path.open("rb") as file:
        npy_format.read_magic(file)
        npy_format.read_array_header_1_0(file)
        return file.tell()
