"""AdamW, and Muon on hidden matrices."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, Phi3Config, Qwen3Config

from tests.train.both_ranks import config
from tests.train.sharded_ranks import copy_stopped
from tests.train.smallrun import metrics, weights
from toremi_cli.errors import UsageError
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.optimizers import build_optimizer, orthogonalised
from toremi_cli.train.shards import shard_name
from toremi_cli.train.worker import run_worker

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES = {
    "gpt2": GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0),
    "qwen3": Qwen3Config(vocab_size=64, hidden_size=16, num_hidden_layers=1, intermediate_size=24, head_dim=4, **HEADS),
    "phi3": Phi3Config(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, intermediate_size=24, pad_token_id=0, **HEADS
    ),
}
RATE = 0.1


def built(kind, **settings):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(SHAPES[kind])
    optimizer = build_optimizer(model, TrainConfig(optimizer="muon", **settings), torch.device("cpu"))
    for group in optimizer.param_groups:
        group["lr"] = RATE
    return model, optimizer


def by_hand(matrix, gradients):
    """Muon's steps on one matrix of a layer, (outputs, inputs)."""
    parameter = torch.nn.Parameter(matrix.detach().clone().contiguous())
    muon = torch.optim.Muon([parameter], lr=RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        parameter.grad = gradient.contiguous()
        muon.step()
    return parameter.detach()


@pytest.mark.parametrize(
    ("kind", "layer", "input_first", "sizes"),
    [
        ("gpt2", "transformer.h.0.attn.c_attn", True, [16, 16, 16]),
        ("gpt2", "transformer.h.0.mlp.c_fc", True, [64]),
        ("qwen3", "model.layers.0.self_attn.k_proj", False, [8]),
        ("phi3", "model.layers.0.self_attn.qkv_proj", False, [16, 8, 8]),
        ("phi3", "model.layers.0.mlp.gate_up_proj", False, [24, 24]),
    ],
)
def test_each_matrix_of_a_fused_one_is_orthogonalised_by_itself(kind, layer, input_first, sizes):
    model, optimizer = built(kind)
    weight = model.get_submodule(layer).weight
    gradients = [torch.randn_like(weight) for _ in range(3)]

    def pieces(tensor):
        return (tensor.t() if input_first else tensor).split(sizes)

    expected = [
        by_hand(matrix, steps)
        for matrix, *steps in zip(pieces(weight.detach()), *(pieces(g) for g in gradients), strict=True)
    ]
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
    for found, wanted in zip(pieces(weight.detach()), expected, strict=True):
        # torch's runs in bfloat16
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.05 * RATE)


def test_muon_decays_what_has_no_gradient():
    model, optimizer = built("qwen3", weight_decay=0.5)
    weight = model.get_submodule("model.layers.0.self_attn.k_proj").weight
    expected = weight.detach() * (1 - RATE * 0.5)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("shape", [(8, 8), (6, 24), (24, 6)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = orthogonalised(matrix, (3.4445, -4.7750, 2.0315))
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5 and values.max() < 1.25
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    directions = left.t() @ found @ right.t()  # diagonal: the directions of the matrix are kept
    torch.testing.assert_close(directions, directions.diagonal().diag(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", SHAPES)
def test_embeddings_head_norms_and_biases_stay_with_adamw(kind):
    model, optimizer = built(kind)
    of_muon = {id(p) for group in optimizer.param_groups if "muon" in group for p in group["params"]}
    inside = [p for name, p in model.named_parameters() if ".h." in name or ".layers." in name]
    assert of_muon == {id(p) for p in inside if p.dim() == 2}
    everyone = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(everyone) == sorted(id(p) for p in model.parameters())


def test_muon_without_hidden_matrices():
    model = AutoModelForCausalLM.from_config(GPT2Config(**{**SHAPES["gpt2"].to_dict(), "n_layer": 0}))
    with pytest.raises(UsageError, match="--optimizer muon: GPT2LMHeadModel has no matrices in hidden layers"):
        build_optimizer(model, TrainConfig(optimizer="muon"), torch.device("cpu"))


def test_a_run_under_muon_resumes_bit_for_bit(workdir):
    settings = {"optimizer": "muon", "muon_learning_rate": 0.02, "schedule": "wsd", "sensitivity": False}
    settings |= {"checkpoint_every": 8, "keep_checkpoints": 0}
    run_worker(config(workdir, "toremi", "whole-muon", **settings), resume=False)
    run, copy = workdir / "runs" / "whole-muon-toremi", workdir / "runs" / "resumed-muon-toremi"
    copy_stopped(run, copy)
    run_worker(config(workdir, "toremi", "resumed-muon", **settings), resume=True)
    assert weights(copy) == weights(run) and metrics(copy) == metrics(run)
    for name in ("model.safetensors", shard_name(0, 1)):
        a, b = (load_file(folder / "checkpoint-16" / name) for folder in (run, copy))
        assert a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a)
    rates = {row["name"]: row["value"] for row in metrics(run) if row["step"] == 8 and "learning_rate" in row["name"]}
    assert rates == {"learning_rate": 0.01, "muon_learning_rate": 0.02}
