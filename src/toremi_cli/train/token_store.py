"""Tokens that lie behind a URL: read stretch by stretch, and kept block by block on this machine's disk.

Samples come in a random order of all, so that any block is as likely as any other to be wanted next: no rule of what to
drop beats keeping what there is room for, and nothing is dropped. A thread fetches the blocks that were wanted, in the
order in which they were; the loader, which is steps ahead, tells it. Until a block is here, and where there is no room
for it, its stretches are fetched by themselves: little is fetched that isn't used, and nobody waits for a block.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from toremi_cli import console
from toremi_cli.errors import BusyError, ToremiError, TrainingError
from toremi_cli.files import atomic_file, remove_abandoned
from toremi_cli.locks import lock_beside, locked
from toremi_cli.remote import DISK_FULL, with_patience

BLOCK_TOKENS = 1 << 25
"""64 MiB where a token has two bytes."""
PART_TOKENS = 1 << 22
"""That one request fetches, at most."""
GAP_TOKENS = 1 << 12
"""Stretches no further apart are fetched as one: 8 KiB cost less than another request."""
HEADER_BYTES = 1 << 10
"""At least those of a `.npy`."""


@dataclass(frozen=True)
class RemoteTokens:
    """The array of all tokens, a `.npy` behind a URL."""

    url: str
    filesystem: Any
    path: str
    dtype: np.dtype[Any]
    begin_bytes: int
    """Where the tokens begin."""

    def fetch(self, begins: Sequence[int], ends: Sequence[int]) -> list[np.ndarray]:
        """The stretches from each begin to its end, in tokens.

        Raises:
            TrainingError: the store has failed each time, or has less than that.
        """
        spans = enumerate(zip(begins, ends, strict=True))
        parts = [
            (i, at, min(at + PART_TOKENS, end)) for i, (begin, end) in spans for at in range(begin, end, PART_TOKENS)
        ]
        bounds = [[self.begin_bytes + part[side] * self.dtype.itemsize for part in parts] for side in (1, 2)]
        found: dict[int, bytes] = {}

        def ask() -> None:  # what has come is not asked for again: many ranks at once may be too many for a store
            absent = [k for k in range(len(parts)) if k not in found]
            ranges = [self.path] * len(absent), *([bound[k] for k in absent] for bound in bounds)
            answers = dict(zip(absent, self.filesystem.cat_ranges(*ranges, on_error="return"), strict=True))
            found.update({k: answer for k, answer in answers.items() if not isinstance(answer, BaseException)})
            for problem in answers.values():
                if isinstance(problem, BaseException):
                    raise problem

        with_patience(self.url, ask)
        pieces: list[list[bytes]] = [[] for _ in begins]
        for k, (i, begin, end) in enumerate(parts):
            if len(found[k]) != (end - begin) * self.dtype.itemsize:
                raise TrainingError(f"{self.url}: ends before token {end}: cut short, or replaced since the run began")
            pieces[i].append(found[k])
        return [np.frombuffer(b"".join(piece), self.dtype) for piece in pieces]


def open_remote_tokens(url: str, filesystem: Any, path: str, num_tokens: int) -> RemoteTokens:
    """Look at the header of an array of tokens, and at its size.

    Raises:
        TrainingError: not there, cut short, or another number of tokens.
    """
    size = with_patience(url, lambda: filesystem.info(path)["size"])
    head = BytesIO(with_patience(url, lambda: filesystem.cat_file(path, start=0, end=min(HEADER_BYTES, size))))
    try:
        npy_format.read_magic(head)
        shape, _, dtype = npy_format.read_array_header_1_0(head)
    except ValueError as problem:
        raise TrainingError(f"{url}: not an array of tokens ({problem})") from None
    expected = head.tell() + num_tokens * dtype.itemsize
    if shape != (num_tokens,) or dtype.kind != "u" or size != expected:
        raise TrainingError(
            f"{url}: has {size:,} bytes, expected {expected:,} for {num_tokens:,} tokens: cut short, or of another "
            "table than the meta.json beside it; copy both again"
        )
    return RemoteTokens(url, filesystem, path, dtype, head.tell())


class TokenStore:
    """Remote tokens, and those of their blocks that are on this machine's disk; ranks share these."""

    def __init__(self, remote: RemoteTokens, num_tokens: int, folder: Path, most_bytes: float) -> None:
        """Keep blocks of `num_tokens` tokens in a folder, at most so many bytes of them."""
        self.remote, self.num_tokens, self.folder, self.block_tokens = remote, num_tokens, folder, BLOCK_TOKENS
        self.num_blocks = -(-num_tokens // self.block_tokens)
        block_bytes = self.block_tokens * remote.dtype.itemsize
        fits = num_tokens * remote.dtype.itemsize <= most_bytes
        self.most_blocks = self.num_blocks if fits else int(most_bytes // block_bytes)
        self._wanted: set[int] = set()
        self._queue: SimpleQueue[int] = SimpleQueue()
        self._has_room = self.most_blocks > 0
        self._failure: ToremiError | None = None
        self._sweep()
        threading.Thread(target=self._keep_wanted, name="token store", daemon=True).start()

    @property
    def kept_fraction(self) -> float:
        """Which part of the tokens there is room for."""
        return self.most_blocks / self.num_blocks

    def read(self, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """(sum of `lengths`,) the stretches of (n,) `lengths` that begin at (n,) `begins`, end to end.

        Raises:
            TrainingError: the store has failed each time it was asked.
        """
        if self._failure:
            raise self._failure
        ends = begins + lengths
        pieces = [self._kept(begin, end) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        absent = [i for i, piece in enumerate(pieces) if piece is None]
        for i, piece in zip(absent, self.peek(begins[absent], ends[absent]), strict=True):
            pieces[i] = piece
        return np.concatenate([np.zeros(0, self.remote.dtype), *(piece for piece in pieces if piece is not None)])

    def _kept(self, begin: int, end: int) -> np.ndarray | None:
        """A stretch from the disk; None where it isn't there, and its block is wanted from now on."""
        pieces, size = [], self.remote.dtype.itemsize
        for block in range(begin // self.block_tokens, -(-end // self.block_tokens)):
            first, last = self._tokens_of(block)
            at, until = max(begin, first), min(end, last)
            try:  # opened anew, of thousands: cheaper than a map, and one that is gone is told at once
                file = os.open(self._name(block), os.O_RDONLY)
            except FileNotFoundError:
                self._want(block)
                return None
            try:
                pieces.append(os.pread(file, (until - at) * size, (at - first) * size))
            finally:
                os.close(file)
        return np.frombuffer(b"".join(pieces), self.remote.dtype)

    def peek(self, begins: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
        """Stretches from the store itself, those that lie close together by one request."""
        if not len(begins):
            return []
        order = np.argsort(begins, kind="stable")
        reach = np.maximum.accumulate(ends[order])
        is_first = np.append(True, begins[order][1:] - reach[:-1] > GAP_TOKENS)
        group = np.cumsum(is_first) - 1
        firsts = begins[order][is_first]
        found = self.remote.fetch(firsts.tolist(), reach[np.append(is_first[1:], True)].tolist())
        pieces: list[np.ndarray] = [np.zeros(0)] * len(begins)
        for i, g in zip(order.tolist(), group.tolist(), strict=True):
            pieces[i] = found[g][begins[i] - firsts[g] : ends[i] - firsts[g]]
        return pieces

    def _name(self, block: int) -> str:
        return f"{self.folder}/{block:06d}.bin"

    def _tokens_of(self, block: int) -> tuple[int, int]:
        """Its first token, and the one after its last."""
        return block * self.block_tokens, min((block + 1) * self.block_tokens, self.num_tokens)

    def _want(self, block: int) -> None:
        if self._has_room and block not in self._wanted:
            self._wanted.add(block)
            self._queue.put(block)

    def _keep_wanted(self) -> None:
        """Fetch the blocks that are wanted, as long as there is room for them."""
        try:
            while self._has_room:
                block = self._queue.get()
                self._keep(block)
                self._wanted.discard(block)
        except ToremiError as problem:
            self._failure = problem
        except OSError as problem:
            if problem.errno not in DISK_FULL:
                self._failure = TrainingError(f"{self.folder}: {problem.strerror}; it must be a folder to write to")
                return
            self._has_room = False
            console.warn(
                f"{self.folder}: no space left on the device; tokens that are not there are read from the store from "
                "now on. Free some, or lower --cache-gb"
            )

    def _sweep(self) -> None:
        """Remove what killed processes have left, files of another size, and what there is no room for."""
        remove_abandoned(self.folder, "*")
        for number, path in enumerate(sorted(self.folder.glob("*.bin"))):
            begin, end = self._tokens_of(int(path.stem))
            with suppress(FileNotFoundError):  # another rank sweeps, too
                if number >= self.most_blocks or path.stat().st_size != (end - begin) * self.remote.dtype.itemsize:
                    path.unlink()
        for lock in self.folder.glob(".*.bin.lock"):
            with suppress(BusyError), locked(lock, lock, "", wait_seconds=0):
                pass  # it is removed at the end

    def _keep(self, block: int) -> None:
        """Put a block on the disk, unless another rank is doing so or there is no room."""
        file = Path(self._name(block))
        with suppress(BusyError), locked(lock_beside(file), file, "", wait_seconds=0):
            if file.exists():
                return
            # Those under way count by their locks, which each rank makes before it looks here.
            taken = {path.name.lstrip(".").partition(".")[0] for path in self.folder.iterdir()}
            if len(taken) > self.most_blocks:
                self._has_room = False
                return
            begin, end = self._tokens_of(block)
            (tokens,) = self.remote.fetch([begin], [end])
            with atomic_file(file) as temporary:
                temporary.write_bytes(tokens.data)
