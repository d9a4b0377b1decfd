"""How well a model predicts text: the summed loss of each sample, every token counted once.

The sums are what perplexity (nats over tokens) and bits per byte (nats over bytes) are made of, so that a domain's
number is token-weighted; the mean of per-batch perplexities, which the reference code takes, is biased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOGITS = {"cpu": 2**26, "cuda": 2**28}
"""Most logits held at once, by device: a vocabulary of 50,000 makes a batch's logits larger than the model."""


@dataclass(frozen=True)
class Window:
    """A stretch of one sample that the model reads at once.

    The sample is thought of with the end-of-text token before it, so position p of the input predicts token p of the
    sample. Inputs are positions start..end-1; tokens from `first` to end-1 are counted, those before are context.
    """

    sample: int
    start: int
    first: int
    end: int

    @property
    def length(self) -> int:
        """Number of input positions."""
        return self.end - self.start


def windows_of(sample: int, num_tokens: int, context_length: int, stride: int | None = None) -> Iterator[Window]:
    """Cut a sample of `num_tokens` into windows in which every token is counted exactly once.

    Without `stride` the windows are disjoint. With it, each window but the first counts `stride` new tokens and reads
    as many tokens before them as fit: slower, and closer to what the model can do with its full context.
    """
    step = context_length if stride is None else stride
    first, end = 0, min(context_length, num_tokens)
    while first < num_tokens:
        yield Window(sample, first if stride is None else max(end - context_length, 0), first, end)
        first, end = end, min(end + step, num_tokens)


@torch.no_grad()
def score_samples(
    model: torch.nn.Module,
    samples: Sequence[Sequence[int]],
    *,
    bos_id: int,
    context_length: int,
    device: torch.device | str,
    batch_tokens: int = 16384,
    stride: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    share: tuple[int, int] = (0, 1),
    forward: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of -log p over the tokens of each sample, the end-of-text token `bos_id` being its first context.

    The closing end-of-text token is not scored. A sample longer than `context_length` is read in windows (see
    `windows_of`). Batches hold windows of similar length, at most `batch_tokens` positions; the result does not
    depend on them beyond rounding.

    Args:
        model: a causal LM of transformers on `device`; left in the mode (train or eval) in which it came.
        samples: token ids of each sample.
        bos_id: the end-of-text token.
        context_length: most input positions at once.
        device: where the model is.
        batch_tokens: most positions in a batch, padding included; lowered where the logits would take too much memory.
        stride: tokens counted per window (sliding windows); None for disjoint windows.
        on_progress: told the number of tokens counted after each batch.
        share: rank and number of ranks: each scores its part of the batches, every one equally many (the last again
            where they run out), since a forward pass of a sharded model needs all ranks.
        forward: logits (b, T, vocab) of inputs (b, T), where that isn't to call the model.

    Returns:
        nats: (num_samples,) float64 on the CPU, 0 for an empty sample; to be summed over the ranks where they share.
        num_tokens: (num_samples,) int64, tokens predicted.
    """
    if stride is not None and not 1 <= stride <= context_length:
        raise ValueError(f"stride is {stride}, expected 1 to {context_length}")
    num_tokens = torch.tensor([len(sample) for sample in samples], dtype=torch.int64)
    windows = [w for i, s in enumerate(samples) for w in windows_of(i, len(s), context_length, stride)]
    windows.sort(key=lambda w: (-w.length, w.sample, w.start))  # the longest first: too large a batch fails at once
    device = torch.device(device)
    place = torch.device("cpu") if device.type == "mps" else device  # which has no float64
    sums = torch.zeros(len(windows), dtype=torch.float64, device=place)
    was_training = model.training
    model.eval()
    batches = list(_batches(windows, _most_positions(model, device, batch_tokens)))
    rank, num_ranks = share
    try:
        for number in range(rank, -(-len(batches) // num_ranks) * num_ranks, num_ranks):
            begin, batch = batches[min(number, len(batches) - 1)]
            found = _score_batch(forward or _logits_of(model), samples, batch, bos_id, device)
            if number < len(batches):
                sums[begin : begin + len(batch)] = found.to(place).double().sum(1)
            if on_progress is not None:
                on_progress(sum(w.end - w.first for w in batch))
    finally:
        model.train(was_training)
    nats = torch.zeros(len(samples), dtype=torch.float64)
    owner = torch.tensor([w.sample for w in windows], dtype=torch.int64)
    return nats.index_add_(0, owner, sums.cpu()), num_tokens


def _most_positions(model: torch.nn.Module, device: torch.device, batch_tokens: int) -> int:
    vocab_size = int(getattr(getattr(model, "config", None), "vocab_size", 1))
    return min(batch_tokens, MAX_LOGITS.get(device.type, MAX_LOGITS["cpu"]) // vocab_size)


def _batches(windows: Sequence[Window], most_positions: int) -> Iterator[tuple[int, Sequence[Window]]]:
    """Consecutive windows (sorted, longest first) and where they begin; at least one window a batch."""
    begin = 0
    while begin < len(windows):
        size = max(most_positions // windows[begin].length, 1)
        yield begin, windows[begin : begin + size]
        begin += size


def _logits_of(model: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda inputs: model(input_ids=inputs, use_cache=False).logits


def _score_batch(
    forward: Callable[[Tensor], Tensor],
    samples: Sequence[Sequence[int]],
    batch: Sequence[Window],
    bos_id: int,
    device: torch.device,
) -> Tensor:
    """Losses of each window's tokens, 0 where one is not counted: (num_windows, length) float32 on `device`."""
    length = batch[0].length
    inputs = torch.full((len(batch), length), bos_id, dtype=torch.int64)
    targets = torch.full((len(batch), length), -100, dtype=torch.int64)
    for row, w in enumerate(batch):
        tokens = samples[w.sample][max(w.start - 1, 0) : w.end]
        before = [bos_id] if w.start == 0 else []
        inputs[row, : w.length] = torch.tensor([*before, *tokens][: w.length])
        targets[row, w.first - w.start : w.length] = torch.tensor(list(samples[w.sample][w.first : w.end]))
    # Padding stands on the right, where a causal model cannot see it from any counted position: no mask is needed.
    logits = forward(inputs.to(device))
    # (num_windows, length, vocab) -> (num_windows * length, vocab), one row a prediction
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.to(device).flatten(), ignore_index=-100, reduction="none"
    )
    return losses.view(len(batch), length)
