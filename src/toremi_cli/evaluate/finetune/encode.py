"""Examples as rows of token ids of a bounded length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from toremi_cli.evaluate.finetune.glue import Example
from toremi_cli.evaluate.models import Encoder

SEPARATOR = "\n"


def encode_examples(encoder: Encoder, examples: Sequence[Example], max_length: int) -> list[list[int]]:
    """The end-of-text token, as before every text in pre-training, then the texts, those of a pair line by line.

    Of what is longer than `max_length` tokens in all, the longer text loses its end first.
    """
    (separator,) = encoder.encode([SEPARATOR])
    first = encoder.encode([example.texts[0] for example in examples])
    if len(examples[0].texts) == 1:
        return [[encoder.eos_id, *ids[: max_length - 1]] for ids in first]
    second = encoder.encode([example.texts[1] for example in examples])
    room = max(max_length - 1 - len(separator), 2)
    rows = []
    for a, b in zip(first, second, strict=True):
        keep_a, keep_b = shares_of(len(a), len(b), room)
        rows.append([encoder.eos_id, *a[:keep_a], *separator, *b[:keep_b]])
    return rows


def shares_of(length_a: int, length_b: int, room: int) -> tuple[int, int]:
    """How much of two lengths fits into `room`, the longer one cut first."""
    keep_a = min(length_a, max(room - length_b, room - room // 2))
    return keep_a, min(length_b, room - keep_a)


def padded(rows: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """(num_rows, longest) int64 token ids, padded on the right, and the mask of the real ones."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(rows), longest), dtype=torch.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids, mask
