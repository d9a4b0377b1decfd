"""The model behind its loss: token losses instead of logits, and gradient sensitivity on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from toremi_cli.errors import UsageError
from toremi_cli.reweight import other_tokens
from toremi_cli.train.cross_entropy import token_cross_entropy
from toremi_cli.train.device import gpu_memory
from toremi_cli.train.documents import Documents, document_inputs

CHUNK_LOGITS, GPU_CHUNK_LOGITS = 2**25, 2**29
"""Logits that `chunked` holds at a time: 128 MiB in float32; on a GPU 2 GiB, or a 64th of its memory."""


class TokenLoss(nn.Module):
    """A causal LM that returns the loss of each predicted token.

    Where the model is a body and a linear head (as GPT-2, Llama, Qwen, Mistral are), the two are called one after the
    other, so that the last hidden state is at hand; else the model is called whole.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        sensitivity: bool = False,
        chunked: bool = False,
        mask_documents: bool = False,
        word_beginnings: Tensor | None = None,
    ) -> None:
        """Wrap a model of transformers.

        Args:
            model: it.
            sensitivity: measure `token_sensitivity`.
            chunked: compute losses chunk by chunk, never with all logits in memory.
            mask_documents: let tokens see those of their own sample only.
            word_beginnings: (vocab,) bool, on the model's device: tokens that begin a word; None: all count as such.

        Raises:
            UsageError: the model cannot do what is asked for.
        """
        super().__init__()
        self.model = model
        self.sensitivity, self.chunked, self.mask_documents = sensitivity, chunked, mask_documents
        self.word_beginnings = word_beginnings
        self.is_split = is_body_and_head(model)
        if not self.is_split and (sensitivity or chunked):
            what = "--chunked-loss" if chunked else "--sensitivity"
            raise UsageError(f"{what}: {type(model).__name__} is no plain body with a linear head; leave it out")
        self.compile_body(False)
        self._no_split_modules = _blocks_of(model)
        """Class names of the blocks, each of which FSDP's preparation makes a unit of its own."""
        if chunked:
            compute_losses_in_forward(model.get_output_embeddings())  # type: ignore[operator]
        self.shuffled_losses: Tensor | None = None
        """(b * T, 2) of the last micro-batch: the losses of the partners that `other_tokens` gives, under the same
        predictions."""
        self.token_sensitivity: Tensor | None = None
        """(b, T) norm of the gradient at the last hidden state, of the last micro-batch after its backward, still times
        the factor of the loss."""

    def compile_body(self, compiled: bool) -> None:
        """Compile the model's body with torch.compile, at its next pass, or leave it as it is."""
        whole: Callable[..., Any] = self.model.base_model if self.is_split else self.model  # type: ignore[assignment]
        self._forward = [torch.compile(whole) if compiled else whole]  # in a list: not a second submodule
        self.is_compiled = compiled

    def logits(self, inputs: Tensor) -> Tensor:
        """(b, T, vocab) of inputs (b, T). By way of `forward`, where FSDP puts the parameters together."""
        return cast("Tensor", self(inputs))

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor | None = None,
        segment: Tensor | None = None,
        documents: Documents | None = None,
    ) -> Tensor:
        """(b, T) float32 nats; without targets, logits (b, T, vocab).

        Args:
            inputs: (b, T) int64.
            targets: (b, T) int64.
            segment: (b * T,) int64, sample of each predicted token; None: `shuffled_losses` are not measured.
            documents: the segments as the model's attention takes them; None: `mask_documents` is by a dense mask.
        """
        if targets is None:
            return cast("Tensor", self.model(input_ids=inputs, use_cache=False).logits)
        more: dict[str, Any] = {}
        if self.mask_documents and segment is not None:
            more.update(document_inputs(segment.view_as(inputs), dense=documents is None))
            if documents is not None:
                more["documents"] = documents
        output = self._forward[0](input_ids=inputs, use_cache=False, **more)
        if segment is None:
            others = targets.view(-1, 1)
        else:
            known = targets.flatten()
            others = known[other_tokens(segment, targets.shape[1], self.begins_word(known))]
        if not self.is_split:
            return self._losses(output.logits, targets, others)
        hidden = output[0]  # (b, T, width)
        if hidden.requires_grad and self.sensitivity:
            hidden.register_hook(self._keep_gradient_norm)
        head = self.model.get_output_embeddings()  # type: ignore[operator]
        if self.chunked:
            losses, self.shuffled_losses = head(hidden, targets, others)
            return cast("Tensor", losses)
        return self._losses(head(hidden), targets, others)

    def begins_word(self, tokens: Tensor) -> Tensor:
        """(N,) bool of tokens (N,): whether each begins a word."""
        if self.word_beginnings is None:
            return torch.ones_like(tokens, dtype=torch.bool)
        return self.word_beginnings[tokens]

    def tie_weights(self) -> None:
        """Let embedding and head share their weights again; FSDP's preparation calls it."""
        self.model.tie_weights()  # type: ignore[operator]

    def get_input_embeddings(self) -> nn.Module | None:
        """The model's, which FSDP's preparation makes a unit of its own."""
        return cast("nn.Module | None", self.model.get_input_embeddings())  # type: ignore[operator]

    def get_output_embeddings(self) -> nn.Module | None:
        """The model's head, for the same purpose."""
        return cast("nn.Module | None", self.model.get_output_embeddings())  # type: ignore[operator]

    def _losses(self, logits: Tensor, targets: Tensor, others: Tensor) -> Tensor:
        # (b, T, vocab) -> (b * T, vocab), one row a prediction
        rows = logits.flatten(0, 1).float()
        losses, self.shuffled_losses = token_cross_entropy(rows, targets.flatten(), others)
        return losses.view_as(targets)

    def _keep_gradient_norm(self, gradient: Tensor) -> None:
        self.token_sensitivity = torch.linalg.vector_norm(gradient, dim=-1, dtype=torch.float32)


def _blocks_of(model: nn.Module) -> list[str]:
    """Those of the classes that transformers says to be blocks which the model has: not every model has all."""
    there = {type(module).__name__ for module in model.modules()}
    return sorted(there & set(getattr(model, "_no_split_modules", None) or ()))


def compute_losses_in_forward(head: nn.Linear) -> None:
    """Let `head(hidden, targets, others)` give `_chunked_losses`, and `head(hidden)` still the logits.

    Within its own forward pass the head's parameters are whole and of the right type, whoever shards or casts them.
    """
    logits = head.forward

    def forward(hidden: Tensor, *tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return _chunked_losses(hidden, head, *tokens) if tokens else logits(hidden)

    head.forward = forward  # type: ignore[assignment]


def chunk_logits(memory: int) -> int:
    """How many logits `chunked` holds at a time on a GPU of `memory` bytes; 0: on the CPU."""
    return min(max(memory // 64 // 4, CHUNK_LOGITS), GPU_CHUNK_LOGITS) if memory else CHUNK_LOGITS


def _chunked_losses(hidden: Tensor, head: nn.Linear, targets: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (b, T) and shuffled ones (b * T, 2), some tokens at a time; the backward pass makes their logits anew.

    torch's `linear_cross_entropy` does that as well, but under bf16 it rounds the losses to bf16.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    weight = head.weight.float()  # FSDP's is bf16, in which the chunks' gradients must not be added up
    size = max(chunk_logits(gpu_memory(hidden.device)) // weight.shape[0], 1)
    parts = zip(*(x.split(size) for x in (hidden.flatten(0, 1), targets.flatten(), others)), strict=True)
    losses, shuffled = zip(
        *(
            checkpoint(_head_losses, *part, weight, head.bias, dtype, use_reentrant=False, preserve_rng_state=False)
            for part in parts
        ),
        strict=True,
    )
    return torch.cat(losses).view_as(targets), torch.cat(shuffled)


def _head_losses(
    hidden: Tensor, targets: Tensor, others: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    # autocast would cast the weight once for all chunks, and so add up their gradients in its own short type
    with torch.autocast(hidden.device.type, enabled=False):
        bias = None if bias is None else bias.to(dtype)
        logits = functional.linear(hidden.to(dtype), weight.to(dtype), bias)
        return token_cross_entropy(logits.float(), targets, others)


def few_tokens(model: nn.Module) -> Tensor:
    """(1, n) int64 tokens to try a model on: 4, or as many as it has positions."""
    positions = getattr(model.config, "max_position_embeddings", None) or 4
    return torch.arange(min(positions, 4), device=next(model.parameters()).device).unsqueeze(0)


@torch.no_grad()
def is_body_and_head(model: nn.Module) -> bool:
    """Whether the model's logits are its linear head on its body's last hidden state, tried on a few tokens."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    if not isinstance(head, nn.Linear) or not hasattr(model, "base_model") or model.base_model is model:
        return False
    was_training = model.training
    model.eval()
    inputs = few_tokens(model)
    whole = model(input_ids=inputs, use_cache=False).logits
    parts = head(model.base_model(input_ids=inputs, use_cache=False)[0])  # type: ignore[operator]
    model.train(was_training)
    return bool(torch.allclose(whole.float(), parts.float(), rtol=1e-3, atol=1e-3))
