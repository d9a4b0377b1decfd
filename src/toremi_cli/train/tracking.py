"""What a tracker (`--log-with`) is told of a run: its config, and the topics that people look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from toremi_cli.train.config import TrainConfig

MOST_TOPICS = 20
"""A chart of hundreds of curves shows nothing."""


def start_tracker(accelerator: Accelerator, config: TrainConfig) -> None:
    """Begin: the project is named after the workdir, the run as it is."""
    flat = {key: value for key, value in config.to_json().items() if key != "policy"}
    flat |= {f"policy.{key}": value for key, value in config.policy.items()}
    plain = {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in flat.items()}
    named: dict[str, dict[str, Any]] = {"wandb": {"name": config.run_name}, "trackio": {"name": config.run_name}}
    kind = str(config.log_with)
    project = Path(config.workdir).resolve().name
    if kind == "tensorboard":  # has no projects: this is a folder within the run's
        project = kind
    accelerator.init_trackers(project, plain, {kind: named[kind]} if kind in named else {})


def topic_curves(topics: Sequence[str], natural: Tensor, **columns: Tensor | None) -> dict[str, float]:
    """Values of the largest topics, as NAME/TOPIC; what was not measured is left out.

    Args:
        topics: names of all of them.
        natural: (num_topics,) their shares of the corpus.
        columns: (num_topics,) each.
    """
    largest = torch.argsort(natural, descending=True, stable=True)[:MOST_TOPICS].tolist()
    measured = {name: values.tolist() for name, values in columns.items() if values is not None}
    found = {f"{name}/{topics[i]}": values[i] for name, values in measured.items() for i in largest}
    return {key: value for key, value in found.items() if math.isfinite(value)}
