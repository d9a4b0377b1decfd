"""Document masking: tokens of a packed row see those of their own sample only, at positions counted from its first.

Three ways to the same numbers: a dense mask, which every model takes; `Groups`, plain causal attention over documents
of like length; `Stretches`, a GPU's kernel for documents of any length. `document_attention` chooses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

varlen_attn: Callable[..., Any] | None
try:
    from torch.nn.attention import varlen
except ImportError:  # it came with torch 2.10
    varlen_attn = None
else:
    varlen_attn = varlen.varlen_attn

DENSE, GROUPS, STRETCHES = "dense", "groups", "stretches"
LONGEST_OVER_SHORTEST = 1.5
"""Of a group: more pads more, less makes more groups (benchmarks/documents.py)."""
VARLEN_TAKES = frozenset(inspect.signature(varlen_attn).parameters) if varlen_attn else frozenset()
"""What torch's function knows: its options were renamed between 2.10 and 2.13."""


class Documents(Protocol):
    """Where the documents of a micro-batch lie, and attention within them."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float) -> Tensor:
        """(b, T, heads, width) of query (b, heads, T, width), key and value (b, key heads, T, width)."""


def document_inputs(segment: Tensor, dense: bool = True) -> dict[str, Tensor]:
    """What transformers' models take beside the tokens; nothing here waits for the device.

    The token that is predicted decides which sample a position belongs to: the end of the sample before, from which a
    sample's first token is predicted, is its first input.

    Args:
        segment: (b, T) int64 sample of each predicted token.
        dense: whether attention gets a mask.

    Returns:
        position_ids: (b, T) int64, counted from the first token that the row has of the sample.
        attention_mask: if `dense`, (b, 1, T, T) bool, True where a position (row) may see another (column).
    """
    length = segment.shape[1]
    positions = torch.arange(length, device=segment.device)
    begins = torch.ones_like(segment, dtype=torch.bool)
    begins[:, 1:] = segment[:, 1:] != segment[:, :-1]
    first = torch.where(begins, positions, 0).cummax(dim=1).values
    found = {"position_ids": positions - first}
    if dense:
        same = segment.unsqueeze(2) == segment.unsqueeze(1)  # (b, T, T)
        earlier = positions.unsqueeze(1) >= positions
        found["attention_mask"] = (same & earlier).unsqueeze(1)
    return found


@dataclass(frozen=True)
class Groups:
    """Documents by length: each group, padded to its longest, is a batch of plain causal attention.

    The padding comes after a document's tokens, none of which sees it, so that nothing has to be masked.
    """

    shapes: tuple[tuple[int, int], ...]
    """Documents and tokens of each group."""
    padded: Tensor
    """(P,) int64: the token, of b * T, at each place of all groups; the document's last in its padding."""
    places: Tensor
    """(b * T,) int64: the place of each token."""

    @classmethod
    def of(cls, lengths: np.ndarray) -> Groups:
        """Those of documents of (S,) `lengths`, end to end."""
        begins, order = np.cumsum(lengths) - lengths, np.argsort(-lengths, kind="stable")
        sorted_lengths, first, end = lengths[order], 0, 0
        shapes, padded, places = [], [], np.empty(lengths.sum(), np.int64)
        while first < len(order):
            longest = int(sorted_lengths[first])
            # From here on documents are too short for this group.
            after = int(np.searchsorted(-sorted_lengths, -longest / LONGEST_OVER_SHORTEST, side="right"))
            own = order[first:after]
            within, own_lengths = np.arange(longest), lengths[own, None]
            tokens = begins[own, None] + np.minimum(within, own_lengths - 1)
            is_token = (within < own_lengths).ravel()
            places[tokens.ravel()[is_token]] = end + np.flatnonzero(is_token)
            shapes.append((len(own), longest))
            padded.append(tokens.ravel())
            first, end = after, end + tokens.size
        return cls(tuple(shapes), torch.from_numpy(np.concatenate(padded)), torch.from_numpy(places))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float) -> Tensor:
        """As `Documents`: a call of torch's attention for each group."""
        rows, _, length, _ = query.shape
        sizes = [documents * longest for documents, longest in self.shapes]
        parts = zip(*(_tokens(x).index_select(0, self.padded).split(sizes) for x in (query, key, value)), strict=True)
        found = []
        for shape, part in zip(self.shapes, parts, strict=True):
            own_query, own_key, own_value = (x.view(*shape, *x.shape[1:]).transpose(1, 2) for x in part)
            output = functional.scaled_dot_product_attention(
                own_query,
                own_key,
                own_value,
                dropout_p=dropout,
                is_causal=True,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
            found.append(output.transpose(1, 2).flatten(0, 1))
        return torch.cat(found).index_select(0, self.places).unflatten(0, (rows, length))


@dataclass(frozen=True)
class Stretches:
    """Documents by their bounds, as torch's variable-length attention takes them."""

    bounds: Tensor
    """(S + 1,) int32: where each of the documents begins among b * T tokens, and the end."""

    @classmethod
    def of(cls, lengths: np.ndarray) -> Stretches:
        """Those of documents of (S,) `lengths`, end to end."""
        return cls(torch.from_numpy(np.append(0, np.cumsum(lengths)).astype(np.int32)))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float) -> Tensor:
        """As `Documents`, without dropout.

        Raises:
            RuntimeError, ValueError: this torch or this device can't do it.
        """
        if varlen_attn is None:
            raise RuntimeError(f"torch {torch.__version__} has no variable-length attention")
        if dropout:
            raise ValueError("variable-length attention has no dropout")
        rows, heads, length, width = query.shape
        options: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in VARLEN_TAKES else {"is_causal": True}
        if key.shape[1] != heads and "enable_gqa" in VARLEN_TAKES:
            options["enable_gqa"] = True
        elif key.shape[1] != heads:
            key, value = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (key, value))
        if "scale" in VARLEN_TAKES:
            options["scale"] = scaling
        elif scaling is not None:
            query = query * (scaling * width**0.5)  # beside the kernel's own 1 / sqrt(width)
        # No document is longer than a row: a bound that is always the same, which torch.compile needn't look at.
        tokens = [_tokens(x).contiguous() for x in (query, key, value)]
        found: Tensor = varlen_attn(*tokens, self.bounds, self.bounds, length, length, **options)
        return found.unflatten(0, (rows, length))


def _tokens(x: Tensor) -> Tensor:
    """(b * T, heads, width) of (b, heads, T, width)."""
    return x.transpose(1, 2).flatten(0, 1)


def dense_mask(lengths: Sequence[int], rows: int) -> Tensor:
    """The `attention_mask` of documents of some `lengths`, end to end in `rows` rows."""
    segment = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).view(rows, -1)
    return document_inputs(segment)["attention_mask"]
