"""The final normalisation layer of a model: what it normalised, from what came out of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toremi_cli.errors import UsageError
from toremi_cli.train.sharding import whole

SMALLEST_SCALE = 1e-6


class FinalNorm:
    """The last layer of a model's body, if it is a LayerNorm or an RMSNorm with weight and bias of its own.

    It gives gamma * xhat + beta, so xhat is had from the hidden state without a hook on the layer, which would break a
    compiled body into pieces.
    """

    def __init__(self, model: nn.Module) -> None:
        """Find the layer.

        Raises:
            UsageError: the body doesn't end in such a layer.
        """
        layer = _last_layer(model)
        if layer is None:
            raise UsageError(
                f"--sensitivity norm: {type(model).__name__} does not end in a LayerNorm or RMSNorm; use hidden or el2n"
            )
        self._layer = layer
        """The layer, not its parameters: under FSDP it gets others."""

    @property
    def has_bias(self) -> bool:
        """Whether beta exists: not in an RMSNorm."""
        return _scale(self._layer)[1] is not None

    @torch.no_grad()
    def normalized(self, output: Tensor) -> Tensor:
        """(b, T, width) float32 xhat, from the layer's output; 0 where gamma is."""
        weight, bias = _scale(self._layer)
        weight = whole(weight)
        centred = output.float() if bias is None else output.float() - whole(bias)
        return torch.where(weight.abs() > SMALLEST_SCALE, centred / weight, 0.0)


@torch.no_grad()
def _last_layer(model: nn.Module) -> nn.Module | None:
    """The layer whose output is the last hidden state, tried on a few tokens."""
    body: nn.Module = model.base_model  # type: ignore[assignment]
    outputs: dict[str, Tensor] = {}  # in the order of the forward pass
    layers = {name: m for name, m in body.named_modules() if _is_norm(m)}
    hooks = [
        m.register_forward_hook(lambda _m, _i, out, name=name: outputs.__setitem__(name, out))
        for name, m in layers.items()
    ]
    device = next(body.parameters()).device
    was_training = body.training
    body.eval()
    hidden = body(input_ids=torch.arange(4, device=device).unsqueeze(0), use_cache=False)[0]
    body.train(was_training)
    for hook in hooks:
        hook.remove()
    for name, output in reversed(outputs.items()):
        is_last = output.numel() == hidden.numel() and torch.equal(output.view_as(hidden), hidden)
        if is_last and _is_normalized(output, *_scale(layers[name])):
            return layers[name]
    return None


def _scale(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias."""
    return layer.weight, getattr(layer, "bias", None)  # type: ignore[return-value]


def _is_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.dim() == 1


def _is_normalized(output: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether taking gamma and beta off leaves rows of mean square 1, as no other convention (1 + gamma) would."""
    rows = (output.float() - (0 if bias is None else bias)) / weight
    return bool(torch.allclose(rows.square().mean(dim=-1), torch.ones(rows.shape[:-1], device=rows.device), atol=0.2))
