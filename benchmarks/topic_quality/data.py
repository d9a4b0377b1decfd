"""Labelled documents, each set halved once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import zstandard


def read(path: Path, half: str, samples: int) -> tuple[list[str], np.ndarray]:
    """Texts and labels of at most `samples` labelled documents of one half of the file, `reported` or `tuned`."""
    opened = zstandard.open if path.suffix == ".zst" else Path.open
    with opened(path, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row.get("label")]
    order = np.random.default_rng(0).permutation(len(rows))
    first = 0 if half == "reported" else len(rows) // 2
    chosen = np.sort(order[first : first + min(samples, len(rows) // 2)])
    return [rows[i]["text"] for i in chosen], np.array([rows[i]["label"] for i in chosen])
