"""Fine-tuning one checkpoint on one task: AdamW, a linear decay, a fixed number of epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toremi_cli.errors import TrainingError
from toremi_cli.evaluate.config import FinetuneSettings
from toremi_cli.evaluate.finetune.encode import padded
from toremi_cli.evaluate.models import load_model
from toremi_cli.lm.streams import derive_seed, permutation

GRAD_CLIP = 1.0


@dataclass(frozen=True)
class Encoded:
    """Encoded examples with their labels."""

    ids: list[list[int]]
    labels: np.ndarray
    """(num_examples,) float64; classes are whole numbers."""


def finetune(
    folder: Path,
    train: Encoded,
    evaluations: Sequence[Encoded],
    *,
    num_labels: int,
    pad_id: int,
    settings: FinetuneSettings,
    seed: int,
    device: torch.device,
    on_progress: Callable[[int], None] = lambda count: None,
) -> list[np.ndarray]:
    """Put a head on a checkpoint, train all of it, predict.

    Args:
        folder: the checkpoint; it is only read.
        train: what to train on.
        evaluations: what to predict.
        num_labels: classes; 1: a number is predicted, by squared error.
        pad_id: a token that no row ends with.
        settings: learning rate, epochs, batch.
        seed: of the head, the order of the examples and dropout; no other random stream is touched.
        device: where it is trained.
        on_progress: told the number of examples after each step.

    Returns:
        predicted classes or numbers of each of `evaluations`: (num_examples,) float64.

    Raises:
        TrainingError: the checkpoint has no classification head in transformers, or the loss is not a number any more.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive_seed(seed, "finetune"))
        kind = "a sequence classifier"
        model = load_model(
            folder, "AutoModelForSequenceClassification", kind, num_labels=num_labels, pad_token_id=pad_id
        )
        model.to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
        num_steps = settings.epochs * math.ceil(len(train.ids) / settings.batch_size)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / num_steps)
        for epoch in range(settings.epochs):
            order = permutation(len(train.ids), seed, "finetune order", epoch)
            total = torch.zeros((), device=device)
            for begin in range(0, len(order), settings.batch_size):
                batch = order[begin : begin + settings.batch_size].tolist()
                loss = _loss(_logits(model, train, batch, pad_id, device), train.labels[batch], device)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
                optimizer.step()
                decay.step()
                optimizer.zero_grad(set_to_none=True)
                total += loss.detach()
                on_progress(len(batch))
            if not math.isfinite(total.item()):
                raise TrainingError(f"{folder}: the loss is not a number in epoch {epoch + 1}; lower --finetune-lr")
        return [_predict(model, rows, settings.batch_size, pad_id, device) for rows in evaluations]


def _logits(model: Any, rows: Encoded, batch: Sequence[int], pad_id: int, device: torch.device) -> Tensor:
    """(num_rows, num_labels) float32, read at each row's last token."""
    ids, mask = padded([rows.ids[index] for index in batch], pad_id)
    return model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits.float()


def _loss(logits: Tensor, labels: np.ndarray, device: torch.device) -> Tensor:
    target = torch.from_numpy(labels).to(device)
    if logits.shape[1] == 1:
        return torch.nn.functional.mse_loss(logits[:, 0], target.float())
    return torch.nn.functional.cross_entropy(logits, target.long())


@torch.no_grad()
def _predict(model: Any, rows: Encoded, batch_size: int, pad_id: int, device: torch.device) -> np.ndarray:
    model.eval()
    # Rows of like length stand together: less padding, the same predictions.
    order = sorted(range(len(rows.ids)), key=lambda index: len(rows.ids[index]))
    predicted = np.zeros(len(order))
    for begin in range(0, len(order), batch_size):
        batch = order[begin : begin + batch_size]
        logits = _logits(model, rows, batch, pad_id, device)
        predicted[batch] = (logits[:, 0] if logits.shape[1] == 1 else logits.argmax(dim=1)).double().cpu().numpy()
    return predicted
