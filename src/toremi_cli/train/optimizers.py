"""The optimizers: AdamW, and Muon on the hidden layers' matrices with AdamW on all else."""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from toremi_cli.errors import UsageError
from toremi_cli.train.config import TrainConfig

MUON_MOMENTUM = 0.95
"""Nesterov's, as in Jordan et al. 2024 (kellerjordan.github.io/posts/muon)."""
FUSED_QUERY_KEY_VALUE = ("c_attn", "qkv_proj", "Wqkv")
FUSED_GATE_UP = ("gate_up_proj",)
"""Layers whose one matrix is several, one after the other along its outputs (GPT-2, Phi, MPT). Those
that mix them head by head (GPT-NeoX, Falcon) are orthogonalised whole."""


def build_optimizer(model: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer of `--optimizer`; groups marked `muon` take the learning rate of Muon.

    Weight decay acts on matrices only, not on biases and norms.

    Raises:
        UsageError: Muon, and the model has no hidden matrix.
    """
    hidden = _hidden_matrices(model) if config.uses_muon else {}
    if config.uses_muon and not hidden:
        raise UsageError(
            f"--optimizer muon: {type(model).__name__} has no matrices in hidden layers; use --optimizer adamw"
        )
    others = [p for p in model.parameters() if p.requires_grad and p not in hidden]
    groups = [
        {"params": [p for p in others if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = device.type in ("cuda", "cpu")
    adamw = torch.optim.AdamW(groups, lr=0.0, betas=(config.beta1, config.beta2), fused=fused)
    return MuonAndAdamW(hidden, adamw, config.weight_decay) if hidden else adamw


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimizers of torch as one, with one list of groups and one state, so that a checkpoint sees one."""

    def __init__(self, hidden: dict[nn.Parameter, Layout], adamw: torch.optim.AdamW, weight_decay: float) -> None:
        """Muon on the `hidden` matrices; `adamw` holds all other parameters."""
        layouts = list(dict.fromkeys(hidden.values()))
        groups = [
            {"params": [p for p, found in hidden.items() if found == layout], "layout": layout, "muon": True}
            for layout in layouts
        ]
        self._adamw = adamw
        # Of updates with the size of AdamW's (arXiv 2502.16982, section 2.2): a rate for one suits the other.
        self._muon = _PiecewiseMuon(
            groups, lr=0.0, weight_decay=weight_decay, momentum=MUON_MOMENTUM, adjust_lr_fn="match_rms_adamw"
        )
        super().__init__([*self._muon.param_groups, *adamw.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Let each of the two step on its own groups."""
        for part, is_muon in ((self._muon, True), (self._adamw, False)):
            # Preparation for devices and shards puts other groups and another state in the place of the first ones.
            part.param_groups = [group for group in self.param_groups if ("muon" in group) == is_muon]
            part.state = self.state
            part.step()


Layout = tuple[bool, tuple[int, ...]]
"""Of a matrix: whether inputs come before outputs, and at which sizes the outputs part into matrices of their own."""


class _PiecewiseMuon(torch.optim.Muon):
    """Muon that orthogonalises each matrix of a fused one by itself, as (outputs, inputs).

    Together, q, k and v would share one set of singular directions, and each would get another step than alone.

    On the CPU in float32, where torch's does it in bfloat16: a CPU without instructions for that takes 10 to 18 times
    as long (96 x 96 to 448 x 1,216, AVX2). Several ranks then come to what one does, up to float rounding.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step; on a GPU torch's own."""
        if any(p.device.type != "cpu" for group in self.param_groups for p in group["params"]):
            super().step(closure)
            return
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            buffers: list[Tensor] = []
            self._init_group(group, params, grads, buffers)
            for param, grad, buffer in zip(params, grads, buffers, strict=True):
                buffer.lerp_(grad, 1 - group["momentum"])
                update = orthogonalised(grad.lerp(buffer, group["momentum"]), group["ns_coefficients"])
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(param.shape)))

    def _init_group(
        self, group: MutableMapping[str, Any], params: list[Tensor], grads: list[Tensor], buffers: list[Tensor]
    ) -> bool:
        whole: tuple[list[Tensor], ...] = ([], [], [])
        super()._init_group(group, *whole)
        input_first, sizes = group["layout"]
        for pieces, tensors in zip((params, grads, buffers), whole, strict=True):
            for tensor in tensors:  # views: what is written to them is written to the whole
                pieces.extend((tensor.t() if input_first else tensor).split(sizes))
        return False


def orthogonalised(matrix: Tensor, coefficients: tuple[float, float, float], num_steps: int = 5) -> Tensor:
    """The nearest matrix with orthogonal rows or columns, about: singular values from 0.7 to 1.2 (Newton-Schulz).

    Jordan et al. 2024 (kellerjordan.github.io/posts/muon), in the precision of the matrix.
    """
    a, b, c = coefficients
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.t() if is_tall else matrix
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(num_steps):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.t() if is_tall else x


def _hidden_matrices(model: nn.Module) -> dict[nn.Parameter, Layout]:
    """The weights of the layers between embeddings and head, which both stay with AdamW."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    outside = [module.weight for module in model.modules() if isinstance(module, nn.Embedding) or module is head]
    unfit = {id(weight) for weight in outside}
    found: dict[nn.Parameter, Layout] = {}
    for name, module in model.named_modules():
        weight: Any = getattr(module, "weight", None)
        if isinstance(module, nn.Linear | Conv1D) and weight.requires_grad and id(weight) not in unfit:
            input_first = isinstance(module, Conv1D)
            outputs = weight.shape[1 if input_first else 0]
            found[weight] = (input_first, _piece_sizes(name.rpartition(".")[2], outputs, model.config))
    return found


def _piece_sizes(name: str, outputs: int, shape: Any) -> tuple[int, ...]:
    """Outputs of each of the matrices that a layer's one matrix is."""
    if name in FUSED_GATE_UP:
        return (outputs // 2, outputs // 2)
    if name in FUSED_QUERY_KEY_VALUE:
        heads, width = shape.num_attention_heads, shape.hidden_size
        queries = heads * (getattr(shape, "head_dim", None) or width // heads)
        return (queries, (outputs - queries) // 2, (outputs - queries) // 2)
    return (outputs,)
