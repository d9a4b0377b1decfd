"""A checkpoint's tensors in shards: a rank writes the parts that it holds, and reads of all files what it wants.

The files are safetensors whose header says where in the whole tensor a part lies, in the form that
`torch.distributed.checkpoint.HuggingFaceStorageReader` reads. No pickle, and no exchange between the ranks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from toremi_cli.errors import TrainingError, reason

PLACES, OFFSETS, SHAPE = "DCP_SHARDING_INFO", "saved_offsets", "global_shape"
"""Where the header says so: the first two are torch's, which knows the whole shapes from another file."""


@dataclass(frozen=True)
class Part:
    """What a rank holds of a tensor: all of it, or a box that begins at `offsets`."""

    tensor: Tensor
    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    """Of the whole tensor."""


def part_of(tensor: Tensor) -> Part:
    """This rank's part of a tensor, in the same memory."""
    tensor = tensor.detach()
    if not isinstance(tensor, DTensor):
        return Part(tensor, (0,) * tensor.dim(), tuple(tensor.shape))
    (place,) = tensor.__create_chunk_list__()
    return Part(tensor.to_local(), tuple(place.offsets), tuple(tensor.shape))


def shard_name(rank: int, num_shards: int) -> str:
    """The name of a rank's file."""
    return f"shard-{rank:05}-of-{num_shards:05}.safetensors"


def write_shard(path: Path, parts: Mapping[str, Part]) -> None:
    """Write a rank's parts; safetensors copies those of a GPU itself, those on the CPU need no copy."""
    places = {name: {OFFSETS: part.offsets, SHAPE: part.shape} for name, part in parts.items()}
    metadata = {"format": "pt", "DCP_VERSION": "1.0", PLACES: json.dumps(places)}
    save_file({name: part.tensor.contiguous() for name, part in parts.items()}, path, metadata)


class Shards:
    """The tensors of a checkpoint's shards, read by slices."""

    def __init__(self, folder: Path, num_shards: int, own: int | None = None) -> None:
        """Open the files; with `own`, only that rank's: one of as many ranks needs no other.

        Raises:
            TrainingError: one is missing or damaged; says which, and what to do.
        """
        self.folder = folder
        self._places: dict[str, list[tuple[Any, list[int]]]] = {}
        self.shapes: dict[str, torch.Size] = {}
        """Of the whole tensors, by name."""
        for rank in range(num_shards) if own is None else [own]:
            self._open(folder / shard_name(rank, num_shards), rank)

    def _open(self, path: Path, rank: int) -> None:
        if not path.is_file():
            raise TrainingError(
                f"{path}: missing, the shard of rank {rank}; the ranks trained in several folders: bring these "
                "together (`rsync`), or use one --workdir that all machines see"
            )
        try:
            file = safe_open(path, framework="pt")
            places = json.loads(file.metadata()[PLACES])
        except Exception as problem:  # safetensors has errors of its own
            raise TrainingError(f"{path}: damaged ({reason(problem)}); delete {path.parent} and resume") from None
        for name, place in places.items():
            self._places.setdefault(name, []).append((file, place[OFFSETS]))
            self.shapes[name] = torch.Size(place[SHAPE])

    def below(self, prefix: str) -> dict[str, torch.Size]:
        """Names that begin with the prefix, without it, and the shapes of the whole tensors."""
        return {key.removeprefix(prefix): shape for key, shape in self.shapes.items() if key.startswith(prefix)}

    def fill(self, name: str, tensor: Tensor) -> Tensor:
        """Read into a tensor what it holds of the one so named, where ranks share it this rank's part; return it.

        Raises:
            TrainingError: the files lack some of it.
        """
        part = part_of(tensor)
        self.fill_part(name, part.tensor, part.offsets)
        return tensor

    def fill_part(self, name: str, tensor: Tensor, offsets: tuple[int, ...]) -> None:
        """Read into a tensor the box that begins at `offsets` of the tensor so named."""
        left = tensor.numel()
        for file, begins in self._places.get(name, []):
            piece = file.get_slice(name)
            for here, there in _overlap(offsets, tensor.shape, begins, piece.get_shape()):
                found = piece[there] if there else file.get_tensor(name)
                tensor[here] = found.to(tensor.device)
                left -= found.numel()
            if left <= 0:  # parts are apart or the same, where each rank holds the whole
                return
        if left:
            raise TrainingError(
                f"{self.folder}: its shards lack {left:,} of {tensor.numel():,} numbers of {name}; delete it and resume"
            )


Slices = tuple[slice, ...]


def _overlap(
    offsets: tuple[int, ...], shape: torch.Size, begins: list[int], sizes: list[int]
) -> Iterator[tuple[Slices, Slices]]:
    """Where two boxes overlap, if they do: seen from the one, and from the other."""
    lows = [max(a, b) for a, b in zip(offsets, begins, strict=True)]
    highs = [min(a + n, b + m) for a, n, b, m in zip(offsets, shape, begins, sizes, strict=True)]
    if math.prod(max(high - low, 0) for low, high in zip(lows, highs, strict=True)):
        yield _shifted(lows, highs, offsets), _shifted(lows, highs, begins)


def _shifted(lows: list[int], highs: list[int], by: Any) -> Slices:
    return tuple(slice(low - n, high - n) for low, high, n in zip(lows, highs, by, strict=True))
