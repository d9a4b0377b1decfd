"""Runs as the trainer leaves them, their numbers made up by a formula: what figures and pages are tried on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import METRICS, WEIGHTS
from toremi_cli.tables import write_table

DOMAINS = ("books", "code", "news", "python_manual", "web")


def make_recorded_run(
    workdir: Path,
    name: str,
    topics: Sequence[str],
    domains: Sequence[str] = DOMAINS,
    *,
    policy: str = "toremi-2",
    seed: int = 0,
    steps: int = 900,
    interval: int = 50,
    switch_step: int = 600,
    status: str = "finished",
    pace: float = 250.0,
) -> Path:
    """Write run.json, weights/ and metrics/; the losses fall exponentially with `pace` steps."""
    run = workdir / "runs" / name
    generator = np.random.default_rng(seed)
    floor = generator.normal(4.5, 0.8, len(topics))
    weight = np.ones(len(topics))
    rows = []
    for step in range(interval, steps + 1, interval):
        loss = floor + 4 * np.exp(-step / pace) + generator.normal(0, 0.03, len(topics))
        gap = (loss - loss.mean()) / loss.mean()
        stage = 1 if step < switch_step else 2
        if policy != "uniform" and stage == 1:
            weight = np.where(gap > 0, np.minimum(weight * (1 + gap), 5), weight)
        elif policy != "uniform":
            weight = np.where(gap > 0, np.maximum(weight * (1 - gap), 0.1), np.minimum(weight * (1 - gap), 5))
        for index, topic in enumerate(topics):
            row = {"step": step, "tokens_seen": step * 4096, "stage": stage, "topic": topic}
            rows.append({**row, "weight": weight[index], "loss": loss[index], "num_samples": 10})
    plan = provenance_of(WEIGHTS, "toremi pretrain", {}, {})
    write_table(run / "weights" / "part-00000.parquet", WEIGHTS, rows, plan)
    _write_metrics(run, domains, seed, steps, interval, pace)
    config = {"policy": {"name": policy}, "seed": seed, "model": "tiny", "learning_rate": 0.003}
    record = {"status": status, "config": config, "data": "0123456789abcdef"}
    (run / "run.json").write_text(json.dumps(record))
    return run


def _write_metrics(run: Path, domains: Sequence[str], seed: int, steps: int, interval: int, pace: float) -> None:
    noise = np.random.default_rng(seed + 100)
    floor = np.random.default_rng(5).normal(2.2, 0.3, len(domains))
    rows = []
    for step in range(interval, steps + 1, interval):
        values = floor + 3 * np.exp(-step / pace) + noise.normal(0, 0.005, len(domains))
        by_domain = {**dict(zip(domains, values, strict=True)), "all": values.mean() * 0.98, "macro": values.mean()}
        for metric, factor in (("eval_bits_per_byte", 1.0), ("eval_loss", 2.0)):
            for domain, value in by_domain.items():
                row = {"step": step, "tokens_seen": step * 4096, "name": metric, "domain": domain}
                rows.append({**row, "value": value * factor})
        row = {"step": step, "tokens_seen": step * 4096, "name": "train_loss", "domain": "all"}
        rows.append({**row, "value": values.mean() * 2.1})
    plan = provenance_of(METRICS, "toremi pretrain", {}, {})
    write_table(run / "metrics" / "part-00000.parquet", METRICS, rows, plan)
