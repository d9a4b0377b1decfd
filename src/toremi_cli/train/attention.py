"""Causal attention that never looks at its mask: transformers otherwise asks the device at each forward pass.

Its mask builder reads `position_ids` back to the host to find out whether rows are packed, a wait in every micro-step.
An attention by a name that the builder doesn't know gets the mask it was given, or none, which is plain causal.
"""

from __future__ import annotations

from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "toremi_causal_sdpa"


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
    AttentionInterface.register(NAME, sdpa_attention_forward)
    model.set_attn_implementation(NAME)  # type: ignore[operator]
