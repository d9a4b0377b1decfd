"""What ranks tell each other besides gradients: JSON-able values, and buffers of all ranks."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from toremi_cli.train.ranks import is_first_here


def from_first_rank(value: Any, device: torch.device, rank: int = 0, group: Any = None) -> Any:
    """A JSON-able value as the first rank, or another one, has it; every rank of the group has to call this."""
    text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=device)
    size = torch.tensor([len(text)], dtype=torch.int64, device=device)
    dist.broadcast(size, rank, group)
    text = text if dist.get_rank() == rank else text.new_empty(int(size))
    dist.broadcast(text, rank, group)
    return json.loads(bytes(text.tolist()))


def of_all_ranks(buffer: Tensor) -> Tensor:
    """(world size, *shape) the ranks' buffers."""
    if not dist.is_initialized():
        return buffer.unsqueeze(0)
    gathered = [torch.empty_like(buffer) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, buffer)
    return torch.stack(gathered)


def first_problem(problem: str, group: Any) -> str:
    """What went wrong on the last of the ranks where something did, the same on all; '' where nothing did."""
    if group is None:
        return problem
    number = torch.tensor([dist.get_rank() + 1 if problem else 0], dtype=torch.int64)
    dist.all_reduce(number, dist.ReduceOp.MAX, group)
    return from_first_rank(problem, number.device, int(number) - 1, group) if int(number) else ""


def is_first_there(place: Path, accelerator: Accelerator) -> bool:
    """Whether this rank is the first of those that see a folder: machines may share it, or each have its own."""
    rank = accelerator.process_index
    mark = from_first_rank(secrets.token_hex(8), accelerator.device) if accelerator.num_processes > 1 else ""
    marks = [place / f".{mark}-{other}" for other in range(rank + 1)]
    if is_first_here():
        place.mkdir(parents=True, exist_ok=True)
        marks[rank].touch()
    accelerator.wait_for_everyone()
    is_first = is_first_here() and not any(other.exists() for other in marks[:rank])
    accelerator.wait_for_everyone()
    marks[rank].unlink(missing_ok=True)
    return is_first
