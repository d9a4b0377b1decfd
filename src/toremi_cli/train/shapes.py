"""Shapes of models that `--model` names, each with settings that suit it. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A shape, and what it is trained with where nothing else is asked for."""

    num_layers: int
    num_heads: int
    width: int
    context_length: int
    """Tokens a row."""
    batch_size: int
    """Rows a step, over all ranks and micro-steps."""
    learning_rate: float
    """Peak learning rate."""
    most_warmup: int = 500
    """Most steps of warm-up."""
    num_key_value_heads: int = 0
    """Heads of keys and values, each shared by a group of queries; 0: GPT-2's shape."""
    mlp_width: int = 0
    """Of the gated feed-forward layer."""
    tied: bool = True
    """Whether embedding and head share their weights."""

    @property
    def is_modern(self) -> bool:
        """Whether it is one of the shapes by size, not GPT-2's."""
        return self.num_key_value_heads > 0

    def transformers_config(self, context_length: int, initializer_range: float) -> Any:
        """A config of transformers, without a vocabulary of its own; no dropout."""
        from transformers import GPT2Config, Qwen3Config

        if not self.is_modern:
            return GPT2Config(
                n_positions=context_length,
                n_embd=self.width,
                n_layer=self.num_layers,
                n_head=self.num_heads,
                initializer_range=initializer_range,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
            )
        return Qwen3Config(
            max_position_embeddings=context_length,
            hidden_size=self.width,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.width // self.num_heads,
            intermediate_size=self.mlp_width,
            tie_word_embeddings=self.tied,
            initializer_range=initializer_range,
        )


PRESETS = {
    "1m": Preset(3, 3, 96, 256, 8, 8e-3, 500, 1, 256, tied=False),
    "10m": Preset(8, 4, 256, 512, 32, 3e-3, 500, 2, 704, tied=False),
    "30m": Preset(10, 7, 448, 512, 64, 2e-3, 1000, 1, 1216, tied=False),
    "60m": Preset(12, 8, 512, 1024, 256, 2e-3, 2000, 2, 1408),
    "124m": Preset(12, 12, 768, 1024, 480, 2e-3, 2000, 4, 2432),
    "350m": Preset(32, 15, 960, 1024, 480, 2e-3, 2000, 5, 2560),
    "1b": Preset(22, 32, 2048, 2048, 1024, 4e-4, 2000, 4, 5632, tied=False),
    "gpt2-tiny": Preset(3, 4, 128, 256, 8, 2e-3),
    "gpt2": Preset(12, 12, 768, 1024, 480, 6e-4),
    "gpt2-medium": Preset(24, 16, 1024, 1024, 480, 3e-4),
    "gpt2-large": Preset(36, 20, 1280, 1024, 480, 2.5e-4),
    "gpt2-xl": Preset(48, 25, 1600, 1024, 480, 2e-4),
}
"""`--model` names; the vocabulary is the corpus's, padded to a multiple of 64.

Those by size are Qwen3's architecture (arXiv 2505.09388): RoPE, RMSNorm, SwiGLU, grouped queries, norms of queries and
keys. Up to 30m the size is that with a vocabulary of 8,192, above with GPT-2's of 50,304. `1m` has the learning rate
that came out best on validation; `10m` and `30m` lie between it and the larger ones, untested. 60m to 350m take theirs
from MobileLLM (arXiv 2402.14905), with GPT-3's batch of half a million tokens; 350m is SmolLM2's shape (arXiv
2502.02737); 1b is TinyLlama's shape, rate, batch and warm-up (arXiv 2401.02385). `gpt2`'s are those of GPT-2's paper,
with nanoGPT's batch and GPT-3's rates (arXiv 2005.14165, table 2.1).
"""
FALLBACK = Preset(0, 0, 0, 1024, 64, 3e-4)
"""Row length and batch for a model that is no preset, and the largest learning rate for one that is trained already."""
