"""Which attention `--mask-documents` uses: the fastest that the run's own model, types and device bear out.

A dense mask is always right. Another way has to show, before the first step, that it gives the same outputs and
gradients where the run is: what a kernel takes differs between devices and versions of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from toremi_cli.errors import reason
from toremi_cli.train.attention import NAME
from toremi_cli.train.documents import DENSE, GROUPS, STRETCHES, Documents, Groups, Stretches, dense_mask
from toremi_cli.train.token_loss import few_tokens

SHORTEST_ROWS_IN_GROUPS = 512
"""In shorter rows a dense mask is as fast as groups (benchmarks/documents.py)."""
MOST_TOKENS = 512
"""Of a row that is tried: attention in float64 beside it must not need much memory."""
ROUNDING = 4
"""How many times the error of a dense mask, or the type's epsilon, another way may differ from float64."""


@dataclass(frozen=True)
class Heads:
    """A layer's attention."""

    queries: int
    keys: int
    width: int
    scaling: float | None
    dropout: float


class Listener:
    """Documents that note by whom they are asked, and attend as if each row were one."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.heard: list[Heads] = []

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float) -> Tensor:
        """As `Documents`.

        Raises:
            ValueError: values are not as wide as keys.
        """
        if value.shape[-1] != query.shape[-1]:
            raise ValueError("its values are not as wide as its keys")
        self.heard.append(Heads(query.shape[1], key.shape[1], query.shape[-1], scaling, dropout))
        grouped = query.shape[1] != key.shape[1]
        return functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped
        ).transpose(1, 2)


def choose_attention(
    model: nn.Module, row_length: int, dtype: torch.dtype, device: torch.device, compiles: bool = False
) -> tuple[str, str]:
    """DENSE, GROUPS or STRETCHES, and what the user should know: why it isn't a faster one, or nothing.

    Every rank calls it: they find together how many rows fit, so where they differ all take a mask.

    Args:
        model: a model of transformers, on the device, not yet wrapped.
        row_length: tokens a row.
        dtype: what attention computes in.
        device: where.
        compiles: whether torch.compile is asked for; it would begin anew for each new shape of groups.
    """
    name, note = _choose(model, row_length, dtype, device, compiles)
    if not dist.is_initialized():
        return name, note
    number = (DENSE, GROUPS, STRETCHES).index(name)
    ends = torch.tensor([number, -number], device=device)
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    highest, lowest = (ends * ends.new_tensor([1, -1])).tolist()
    return (name, note) if highest == lowest else (DENSE, _note(DENSE, [note or f"{name} not on all ranks"]))


def _choose(
    model: nn.Module, row_length: int, dtype: torch.dtype, device: torch.device, compiles: bool
) -> tuple[str, str]:
    candidates: dict[str, Callable[[np.ndarray], Documents]] = (
        {STRETCHES: Stretches.of} if device.type == "cuda" else {}
    )
    if row_length >= SHORTEST_ROWS_IN_GROUPS and not compiles and device.type in ("cpu", "cuda"):
        candidates[GROUPS] = Groups.of
    if not candidates:
        return DENSE, ""
    problem, layers = layers_of(model)
    problems = [problem] if problem else []
    for name, make in candidates.items() if layers else ():
        found = [why_it_is_not_used(make, heads, row_length, dtype, device) for heads in dict.fromkeys(layers)]
        if not any(found):
            return name, _note(name, problems)
        problems += [f"{name}: {next(filter(None, found))}"]
    return DENSE, _note(DENSE, problems)


def _note(name: str, problems: list[str]) -> str:
    what = {DENSE: "attention takes a dense mask", GROUPS: "attention goes by groups of documents of like length"}
    return f"--mask-documents: {what[name]} ({'; '.join(problems)})" if problems else ""


@torch.no_grad()
def layers_of(model: nn.Module) -> tuple[str, list[Heads]]:
    """Why documents can't be given to all of the model's layers; or nothing, and the attention of each."""
    config: Any = model.config
    if getattr(config, "_attn_implementation", "") != NAME:
        return f"{type(model).__name__} doesn't use torch's attention in all layers", []
    listener = Listener()
    try:
        model(input_ids=few_tokens(model), use_cache=False, documents=listener)
    except Exception as problem:  # any model that transformers has may come here
        return f"{type(model).__name__}: {reason(problem)}", []
    if len(listener.heard) != config.get_text_config().num_hidden_layers:
        return f"{type(model).__name__} doesn't tell its layers of documents", []
    return "", listener.heard


def why_it_is_not_used(
    make: Callable[[np.ndarray], Documents], heads: Heads, row_length: int, dtype: torch.dtype, device: torch.device
) -> str:
    """What keeps a way from the numbers of a dense mask, on a batch of two rows; nothing where it has them.

    Outputs and gradients may be as far from float64 as a dense mask's are in the same type, up to a factor `ROUNDING`.
    """
    lengths, rows = tried_lengths(min(row_length, MOST_TOKENS)), 2
    mask = dense_mask(lengths.tolist(), rows).to(device)
    stream = torch.Generator().manual_seed(0)
    shapes = [(rows, n, int(lengths.sum()) // rows, heads.width) for n in (heads.queries, heads.keys, heads.keys)]
    inputs = [torch.randn(shape, generator=stream).to(device, dtype) for shape in shapes]
    weights = torch.randn(shapes[0], generator=stream).to(device, dtype).transpose(1, 2)

    def dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        key, value = (x.repeat_interleave(heads.queries // heads.keys, dim=1) for x in (key, value))
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=heads.scaling
        ).transpose(1, 2)

    try:
        documents = _moved(make(lengths), device)
        exact = results(dense, [x.double() for x in inputs], weights.double())
        # Dropout is random: it is only asked whether there is any.
        found = results(lambda q, k, v: documents.attend(q, k, v, heads.scaling, 0.0), inputs, weights)
        if heads.dropout:
            results(lambda q, k, v: documents.attend(q, k, v, heads.scaling, heads.dropout), inputs, weights)
    except Exception as problem:  # whatever a kernel doesn't take
        return reason(problem)
    plain = results(dense, inputs, weights)
    for what, a, b, c in zip(
        ("outputs", *(f"gradients of {x}" for x in ("queries", "keys", "values"))), found, plain, exact, strict=True
    ):
        allowed = ROUNDING * max(torch.finfo(dtype).eps, _error(b, c))
        if not _error(a, c) <= allowed:
            return f"{what} differ by {_error(a, c):.1e}, {allowed:.1e} at most"
    return ""


def tried_lengths(row_length: int) -> np.ndarray:
    """Lengths of documents that fill two rows: one token, short, longer ones, and a whole row."""
    ends = np.minimum([1, row_length // 8 + 1, row_length // 8 + 3, max(row_length // 2, 1), row_length], row_length)
    return np.diff([0, *np.unique(ends), 2 * row_length])


def results(attend: Callable[..., Tensor], inputs: list[Tensor], weights: Tensor) -> list[Tensor]:
    """Output, and gradients of the inputs for the sum of the outputs times `weights`."""
    own = [x.detach().clone().requires_grad_() for x in inputs]
    with torch.enable_grad():
        output = attend(*own)
    return [output.detach(), *torch.autograd.grad(output, own, weights)]


def _error(found: Tensor, exact: Tensor) -> float:
    """Largest deviation, as a part of the largest value."""
    return float((found.double() - exact).abs().max() / exact.abs().max())


def _moved(documents: Documents, device: torch.device) -> Documents:
    if isinstance(documents, Groups):
        return Groups(documents.shapes, documents.padded.to(device), documents.places.to(device))
    assert isinstance(documents, Stretches)
    return Stretches(documents.bounds.to(device))
