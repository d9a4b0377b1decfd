"""Log-likelihoods of continuations, as lm-evaluation-harness computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toremi_cli.evaluate.models import Encoder, LoadedModel
from toremi_cli.lm.perplexity import MAX_LOGITS

IGNORED = -100


@dataclass(frozen=True)
class Request:
    """Token ids of a context and of the continuation whose log-likelihood is asked."""

    context: list[int]
    continuation: list[int]


@dataclass(frozen=True)
class Answer:
    """`is_greedy`: whether every token of the continuation was the most likely one."""

    log_likelihood: float
    num_tokens: int
    is_greedy: bool


def encode_pairs(encoder: Encoder, pairs: Sequence[tuple[str, str]]) -> list[Request]:
    """Tokenize contexts with their continuations, so that the cut falls where the context's own tokens end.

    Spaces at the end of a context belong to the continuation; an empty context is the end-of-text token.
    """
    moved = []
    for context, continuation in pairs:
        kept = context.rstrip()
        moved.append((kept, context[len(kept) :] + continuation))
    wholes = encoder.encode([context + continuation for context, continuation in moved])
    heads = encoder.encode([context for context, _ in moved])
    return [Request(head or [encoder.eos_id], whole[len(head) :]) for head, whole in zip(heads, wholes, strict=True)]


@torch.no_grad()
def answer(
    loaded: LoadedModel,
    requests: Sequence[Request],
    batch_tokens: int = 16384,
    on_progress: Callable[[int], None] | None = None,
) -> list[Answer]:
    """The log-likelihood of each continuation; a pair longer than the context loses its beginning.

    Returns:
        answers in the order of the requests.
    """
    vocab_size = int(loaded.model.config.vocab_size)
    most = min(batch_tokens, MAX_LOGITS.get(loaded.device.type, MAX_LOGITS["cpu"]) // vocab_size)
    kept = [(r.context + r.continuation)[-(loaded.context_length + 1) :] for r in requests]
    order = sorted(range(len(requests)), key=lambda i: (-len(kept[i]), i))
    answers: dict[int, Answer] = {}
    begin = 0
    while begin < len(order):
        size = max(most // max(len(kept[order[begin]]) - 1, 1), 1)
        batch = order[begin : begin + size]
        sums, greedy = _score(loaded, [kept[i] for i in batch], [len(requests[i].continuation) for i in batch])
        for index, total, is_greedy in zip(batch, sums.tolist(), greedy.tolist(), strict=True):
            answers[index] = Answer(total, len(requests[index].continuation), bool(is_greedy))
        begin += size
        if on_progress is not None:
            on_progress(len(batch))
    return [answers[index] for index in range(len(requests))]


def _score(loaded: LoadedModel, rows: Sequence[list[int]], lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(num_rows,) summed log-likelihood of each row's last `lengths` tokens, and whether all were the most likely."""
    longest = len(rows[0]) - 1
    inputs = torch.zeros((len(rows), longest), dtype=torch.int64)
    targets = torch.full((len(rows), longest), IGNORED, dtype=torch.int64)
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        tokens = torch.tensor(row)
        inputs[index, : len(row) - 1] = tokens[:-1]
        counted = min(length, len(row) - 1)
        targets[index, len(row) - 1 - counted : len(row) - 1] = tokens[len(row) - counted :]
    targets = targets.to(loaded.device)
    logits = loaded.model(input_ids=inputs.to(loaded.device), use_cache=False).logits.float()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    ).view(targets.shape)
    greedy = ((logits.argmax(-1) == targets) | (targets == IGNORED)).all(dim=1)
    return -losses.double().sum(dim=1).cpu(), greedy.cpu()
