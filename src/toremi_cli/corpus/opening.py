"""Opening a corpus file as a stream of bytes, decompressed; a file that ends too early is an error, never silence."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from toremi_cli.corpus import lfs
from toremi_cli.corpus.listing import CorpusFile
from toremi_cli.errors import CorpusError, reason

READ_BYTES = 1 << 20
BINARY = ("parquet", "arrow")


@contextmanager
def open_bytes(filesystem: Any, file: CorpusFile) -> Iterator[io.BufferedReader]:
    """Open a file for reading, decompressed.

    Raises:
        CorpusError: it cannot be opened, or what is read inside the block is damaged.
    """
    try:
        with filesystem.open(file.path, "rb") as raw:
            if 0 < file.size <= lfs.MOST_BYTES:
                _refuse_pointer(raw, file)
            stream = _range(raw, file) if file.format == "lines" else _decompressed(raw, file.compression)
            if file.format not in BINARY and not file.begin:
                _refuse_utf16(stream.peek(4)[:4], file)
            yield stream
    except CorpusError:
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise CorpusError(f"{file.shown}: damaged or cut off ({reason(problem)}); fetch the file again") from None
    except OSError as problem:
        raise CorpusError(f"{file.shown}: cannot be read ({problem.strerror or reason(problem)})") from None


def _refuse_pointer(raw: IO[bytes], file: CorpusFile) -> None:
    if lfs.is_pointer(raw.read(len(lfs.BEGINNING))):
        raise CorpusError(f"{file.shown}: is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    raw.seek(0)


def _refuse_utf16(beginning: bytes, file: CorpusFile) -> None:
    nulls = [byte == 0 for byte in beginning]
    if beginning[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or nulls in ([0, 1, 0, 1], [1, 0, 1, 0]):
        wide = beginning == codecs.BOM_UTF32_LE
        name = "UTF-32" if wide else "UTF-16"
        raise CorpusError(f"{file.shown}: is {name}, expected UTF-8; convert it: iconv -f {name} -t UTF-8 OLD > NEW")


def _decompressed(raw: IO[bytes], compression: str | None) -> io.BufferedReader:
    if compression == "gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), READ_BYTES)
    if compression == "zst":
        return io.BufferedReader(_ZstdReader(raw), READ_BYTES)
    return io.BufferedReader(raw, READ_BYTES)  # type: ignore[arg-type]


def _range(raw: IO[bytes], file: CorpusFile) -> io.BufferedReader:
    raw.seek(file.begin)
    return io.BufferedReader(_Limited(raw, file.size), READ_BYTES)


class _Limited(io.RawIOBase):
    """The next bytes of a file, so many."""

    def __init__(self, raw: IO[bytes], size: int) -> None:
        self._raw, self._left = raw, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


class _ZstdReader(io.RawIOBase):
    """Reads Zstandard frames one after another. The library's own reader takes a cut-off frame for the end."""

    def __init__(self, raw: IO[bytes]) -> None:
        import zstandard

        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
        self._frame: Any = None
        self._ready = b""
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if not self._fill():
                return 0
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _fill(self) -> bool:
        import zstandard

        data = self._pending or self._raw.read(1 << 17)
        self._pending = b""
        if not data:
            if self._frame is not None:
                raise EOFError("the Zstandard stream ends in the middle of a frame")
            return False
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(data))  # type: ignore[assignment]
        except zstandard.ZstdError as problem:
            raise EOFError(str(problem)) from None
        if self._frame.eof:
            self._pending = self._frame.unused_data
            self._frame = None
        return True
