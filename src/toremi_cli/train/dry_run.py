"""`toremi pretrain --dry-run`: what a run would do and need, without training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from toremi_cli.lm.bf16 import warn_of_slow_bf16
from toremi_cli.reweight.strata import chunks_of
from toremi_cli.train.accelerate_config import shards_model
from toremi_cli.train.announce import warn_of_few_updates, warn_of_little_room
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.device import gpu_memory
from toremi_cli.train.needs import needs_of
from toremi_cli.train.run import Plan, plan_run
from toremi_cli.train.schedule import BYTES_PER_PARAMETER, FLOAT_BYTES, LOGITS_COPIES, activation_floats
from toremi_cli.train.speed import flops_per_token
from toremi_cli.train.token_loss import chunk_logits
from toremi_cli.train.tokens import TokenCache

FOUND = "found at the start"
"""What a GPU has to be tried for."""


def describe_plan(config: TrainConfig, cache: TokenCache, world_size: int, on_gpus: bool = False) -> dict[str, Any]:
    """Parameters, tokens, steps, epochs by source, memory, disk and arithmetic of a run."""
    device = torch.device("cuda" if on_gpus else "cpu")
    memory = gpu_memory(device)
    plan = plan_run(config, cache, world_size, memory)
    schedule = plan.schedule
    if config.precision == "bf16":
        warn_of_slow_bf16(device)
    warn_of_few_updates(schedule, plan.policy.name)
    warn_of_little_room(config, cache, schedule)
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_config(plan.shape)
    num_parameters = sum(p.numel() for p in model.parameters())
    tries = on_gpus and not shards_model(config.accelerate_config)
    total = schedule.max_steps * schedule.batch_tokens
    return {
        "run": config.run_name,
        "policy": plan.policy.name,
        "acts_on": plan.policy.apply,
        "topics": len(plan.index.pairs.names),
        "parameters": num_parameters,
        "vocabulary": int(plan.shape.vocab_size),
        "processes": world_size,
        "context_length": schedule.context_length,
        "rows_per_step": schedule.batch_size,
        "micro_batch": FOUND if config.micro_batch is None and tries else _micro_batch(plan, world_size),
        "micro_steps": FOUND if config.micro_batch is None and tries else schedule.num_micro_steps,
        "compiled": FOUND if config.compile is None and tries else bool(config.compile),
        "tokens_per_step": schedule.batch_tokens,
        "steps": schedule.max_steps,
        "intervals": schedule.max_steps // schedule.interval,
        "tokens": total,
        "epochs": schedule.epochs,
        "evaluations": -(-schedule.max_steps // schedule.eval_every),
        "optimizer": "muon" if config.uses_muon else "adamw",
        "learning_rate": schedule.learning_rate,
        **needs_of(
            config,
            num_parameters,
            schedule.max_steps,
            _memory_bytes(config, plan, num_parameters, world_size, memory),
            world_size,
            memory,
        ),
        "flops": flops_per_token(model, schedule.context_length) * total,
        "sources": _sources(cache, plan, total),
    }


def _micro_batch(plan: Plan, world_size: int) -> int:
    """Rows of the largest micro-step."""
    return -(-plan.schedule.batch_size // world_size // plan.schedule.num_micro_steps)


def _memory_bytes(config: TrainConfig, plan: Plan, num_parameters: int, world_size: int, memory: int) -> float:
    schedule, shape = plan.schedule, plan.shape
    tokens = _micro_batch(plan, world_size) * schedule.context_length
    kept = activation_floats(shape.num_hidden_layers, shape.hidden_size, config.gradient_checkpointing)
    logits = tokens * shape.vocab_size
    if config.chunked_loss:
        logits = min(logits, chunk_logits(memory))
    floats = tokens * kept + LOGITS_COPIES * logits
    return num_parameters * BYTES_PER_PARAMETER + floats * FLOAT_BYTES


def _sources(cache: TokenCache, plan: Plan, total: int) -> list[dict[str, Any]]:
    """Samples, tokens and planned epochs of each source, by the shares in force at the first step."""
    strata, rates = plan.index.strata, np.ones(len(plan.index.strata.num_samples))
    if plan.policy.apply != "loss":
        rates = strata.weights(plan.policy.weights.numpy())
    sums = np.zeros((3, len(cache.sources)))  # samples, tokens, tokens drawn in proportion
    for part in chunks_of(len(plan.index.samples)):
        samples = plan.index.samples[part]
        predicted = cache.length[samples] + 1.0
        for row, values in enumerate((None, predicted, predicted * rates[strata.stratum_of[samples]])):
            sums[row] += np.bincount(cache.source[samples], values, len(cache.sources))
    samples, tokens, drawn = sums
    planned = drawn / drawn.sum() * total
    return [
        {"source": name, "num_samples": int(n), "num_tokens": int(t), "epochs": float(p / t)}
        for name, n, t, p in zip(cache.sources, samples, tokens, planned, strict=True)
        if n
    ]
