"""The model behind its loss: token losses instead of logits, and gradient sensitivity on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from toremi_cli.errors import UsageError
from toremi_cli.reweight import el2n_squared
from toremi_cli.train.cross_entropy import token_cross_entropy


class TokenLoss(nn.Module):
    """A causal LM that returns the loss of each predicted token.

    Where the model is a body and a linear head (as GPT-2, Llama, Qwen, Mistral are), the two are called one after the
    other, so that the last hidden state is at hand; else the model is called whole.
    """

    def __init__(
        self, model: nn.Module, *, sensitivity: str = "none", compile_body: bool = False, chunked: bool = False
    ) -> None:
        """Wrap a model of transformers.

        Args:
            model: it.
            sensitivity: "hidden", "el2n" or "none"; see `TrainConfig.sensitivity`.
            compile_body: compile the body with torch.compile.
            chunked: compute losses chunk by chunk, never with all logits in memory.

        Raises:
            UsageError: the model or the version of torch cannot do what is asked for.
        """
        super().__init__()
        self.model = model
        self.sensitivity, self.chunked = sensitivity, chunked
        self.is_split = is_body_and_head(model)
        if not self.is_split and (sensitivity == "hidden" or chunked):
            what = "--chunked-loss" if chunked else "--sensitivity hidden"
            raise UsageError(f"{what}: {type(model).__name__} is no plain body with a linear head; use el2n or none")
        if chunked and not hasattr(functional, "linear_cross_entropy"):
            raise UsageError(f"--chunked-loss needs torch 2.13, this is {torch.__version__}")
        whole: Callable[..., Any] = model.base_model if self.is_split else model  # type: ignore[assignment]
        self._forward = [torch.compile(whole) if compile_body else whole]  # in a list: not a second submodule
        self.token_sensitivity: Tensor | None = None
        """(b, T) of the last micro-batch, after its backward; of "hidden" still times the factor of the loss."""

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """(b, T) float32 nats, from (b, T) int64 inputs and targets."""
        output = self._forward[0](input_ids=inputs, use_cache=False)
        if not self.is_split:
            return self._losses(output.logits, targets)
        hidden = output[0]  # (b, T, width)
        if self.sensitivity == "hidden" and hidden.requires_grad:
            hidden.register_hook(self._keep_gradient_norm)
        head = self.model.get_output_embeddings()  # type: ignore[operator]
        if self.chunked:
            return _chunked_losses(hidden, head, targets)
        return self._losses(head(hidden), targets)

    def _losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        # (b, T, vocab) -> (b * T, vocab), one row a prediction
        rows = logits.flatten(0, 1).float()
        losses = token_cross_entropy(rows, targets.flatten())
        if self.sensitivity == "el2n" and torch.is_grad_enabled():
            self.token_sensitivity = el2n_squared(rows, losses).sqrt().view_as(targets)
        return losses.view_as(targets)

    def _keep_gradient_norm(self, gradient: Tensor) -> None:
        self.token_sensitivity = torch.linalg.vector_norm(gradient, dim=-1, dtype=torch.float32)


def _chunked_losses(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    rows = functional.linear_cross_entropy(
        hidden.flatten(0, 1),
        head.weight,
        targets.flatten(),
        linear_bias=head.bias,
        reduction="none",
        options=nn.LinearCrossEntropyOptions(),
    )
    return rows.float().view_as(targets)


@torch.no_grad()
def is_body_and_head(model: nn.Module) -> bool:
    """Whether the model's logits are its linear head on its body's last hidden state, tried on a few tokens."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    if not isinstance(head, nn.Linear) or not hasattr(model, "base_model") or model.base_model is model:
        return False
    was_training = model.training
    model.eval()
    inputs = torch.arange(4, device=head.weight.device).unsqueeze(0)
    whole = model(input_ids=inputs, use_cache=False).logits
    parts = head(model.base_model(input_ids=inputs, use_cache=False)[0])  # type: ignore[operator]
    model.train(was_training)
    return bool(torch.allclose(whole.float(), parts.float(), rtol=1e-3, atol=1e-3))
