"""Which learning rates were tried for a policy, and which was best: it stands in the runs' folders."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.evidence.corpora import workdir_of
from benchmarks.evidence.grid import TUNING_SEED, Arm, Cell

SCORE = "validation.json"
"""File in a run's folder: its macro bits per byte on the validation split."""


def record_rate(folder: Path, rate: float, value: float) -> None:
    """Keep what a run came to."""
    (folder / SCORE).write_text(json.dumps({"rate": rate, "macro_bits_per_byte": value}), "utf-8")


def tried_rates(arm: Arm, policy: str, out: Path) -> dict[float, float]:
    """Macro bits per byte by factor of the preset's rate."""
    prefix = Cell(arm, policy, TUNING_SEED, 1.0).name.removesuffix(f"-rate1-s{TUNING_SEED}")
    runs = (workdir_of(out, arm.corpus) / "runs").glob(f"{prefix}-rate*-s{TUNING_SEED}/{SCORE}")
    records = [json.loads(path.read_text("utf-8")) for path in runs]
    return {record["rate"]: record["macro_bits_per_byte"] for record in records}


def chosen_rate(arm: Arm, policy: str, out: Path) -> float:
    """A policy's learning rate on an arm, as a factor of the preset's: the best of those tried."""
    tried = tried_rates(arm.tuned_on, policy, out)
    return min(tried, key=lambda rate: tried[rate]) if tried else 1.0
