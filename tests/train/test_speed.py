"""What a token costs, what a device can do, and where a run's time goes."""

from __future__ import annotations

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, Qwen3Config

from tests.train.smallrun import table
from toremi_cli.schemas import METRICS
from toremi_cli.train.peak import matmul_peak
from toremi_cli.train.speed import Clock, flops_per_token

CPU = torch.device("cpu")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_flops_are_those_that_torch_counts(kind, tied):
    ids = {"vocab_size": 512, "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": tied}
    shape = (
        GPT2Config(n_embd=64, n_layer=2, n_head=2, n_positions=32, **ids)
        if kind == "gpt2"
        else Qwen3Config(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
            intermediate_size=96, **ids,
        )
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(shape, attn_implementation="eager")
    tokens = torch.randint(0, 512, (4, 32))
    with FlopCounterMode(display=False) as counted:
        model(input_ids=tokens, use_cache=False).logits.sum().backward()
    # positions are looked up, biases and norms added, for which 6 each are little; there is no gradient of the inputs
    assert flops_per_token(model, 32) * 4 * 32 == pytest.approx(counted.get_total_flops(), rel=0.05)


def test_the_peak_is_that_of_a_matrix_product():
    size = 1024
    a = torch.randn(size, size)
    start = time.perf_counter()
    torch.mm(a, a)
    assert matmul_peak(CPU, torch.float32) > 0.2 * 2 * size**3 / (time.perf_counter() - start)


def test_the_clock_tells_phases_apart():
    clock = Clock(CPU, flops_per_token=10.0, peak=1e6)

    def batches():
        for number in range(2):
            time.sleep(0.03)
            yield number

    for _ in clock.waiting(batches()):
        time.sleep(0.02)
        clock.count(500)
        with clock.phase("evaluation"):
            time.sleep(0.05)
    found = clock.read()
    assert found["data_seconds"] == pytest.approx(0.06, abs=0.05) and found["data_seconds"] >= 0.06
    assert found["evaluation_seconds"] >= 0.1 and found["reweighting_seconds"] == 0
    assert found["step_seconds"] >= 0.04
    assert found["tokens_per_second"] == pytest.approx(1000 / (found["step_seconds"] + found["data_seconds"]))
    assert found["mfu"] == pytest.approx(found["tokens_per_second"] * 10 / 1e6)
    assert clock.read()["evaluation_seconds"] == 0


def test_a_run_writes_its_speed(uninterrupted):
    rows = [row for row in table(uninterrupted, METRICS).to_pylist() if row["step"] == 9]
    found = {row["name"]: row["value"] for row in rows if row["domain"] == "all"}
    assert found["tokens_per_second"] > 0 and 0 < found["mfu"] < 1 and found["peak_memory_gib"] > 0.1
    assert found["step_seconds"] > 0 and found["evaluation_seconds"] > 0 and found["checkpoint_seconds"] == 0
