"""Causal attention that never looks at its mask: transformers otherwise asks the device at each forward pass.

Its mask builder reads `position_ids` back to the host to find out whether rows are packed, a wait in every micro-step.
An attention by a name that the builder doesn't know gets the mask it was given, or none, which is plain causal; or the
`documents` that it is to stay in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from toremi_cli.train.documents import Documents

NAME = "toremi_causal_sdpa"
NOT_PLAIN = ("position_bias", "softcap", "s_aux")
"""What some models' attention has beside queries, keys and values: documents don't go with it."""


def attend_without_waiting(model: nn.Module) -> None:
    """Have the model's layers use torch's attention without a mask builder before them.

    Left as they are: models that don't use torch's attention, and those with windowed layers, which need the mask.
    The name isn't saved with the model.
    """
    config = model.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    has_window = getattr(config, "sliding_window", None) is not None or set(kinds) != {"full_attention"}
    if getattr(config, "_attn_implementation", "") != "sdpa" or has_window:
        return
    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)  # type: ignore[operator]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    documents: Documents | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers: query (b, heads, T, width), key and value (b, key heads, T, width).

    Raises:
        ValueError: `documents` for attention that is not plainly causal.
    """
    if documents is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    odd = [name for name in NOT_PLAIN if more.get(name) is not None]
    if odd or more.get("is_causal") is False or not getattr(module, "is_causal", True):
        raise ValueError(f"{type(module).__name__} has {', '.join(odd) or 'attention that is not causal'}")
    device = query.device.type
    if torch.is_autocast_enabled(device):  # it knows torch's attention, not a kernel's
        query, key, value = (x.to(torch.get_autocast_dtype(device)) for x in (query, key, value))
    found = documents.attend(query, key, value, more.get("scaling"), more.get("dropout", 0.0))
    return found.contiguous(), None
