"""The evaluation inside a run: loss by source on held-out samples, shared between the ranks."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import torch
import torch.distributed as dist

from toremi_cli.lm.perplexity import score_samples
from toremi_cli.lm.streams import derive_seed
from toremi_cli.reweight.strata import chunks_of, mix64
from toremi_cli.schemas import VALIDATION, source_domain
from toremi_cli.train.index import TopicPairs
from toremi_cli.train.token_loss import TokenLoss
from toremi_cli.train.tokens import TokenCache


@dataclass(frozen=True)
class Evaluation:
    """Token-weighted losses of the validation samples by source."""

    loss: dict[str, float]
    """Nats a token, by domain."""
    bits_per_byte: dict[str, float]
    micro_loss: float
    """Over all tokens."""
    macro_loss: float
    """Mean over sources."""
    micro_bits_per_byte: float
    macro_bits_per_byte: float
    topic_loss: torch.Tensor
    """(num_topics,) float64: mean loss of the topic's samples; NaN where there is none."""


CHOICE_SEED = 0


def choose_samples(cache: TokenCache, samples_per_source: int) -> np.ndarray:
    """(n,) indices of the validation samples to evaluate on: at most so many a source, the same in every run.

    Whatever the run's seed: else part of what differs between seeds would be the text that they are measured on.
    """
    chosen = np.zeros(0, np.int64)
    key = np.uint64(derive_seed(CHOICE_SEED, "validation"))
    for part in chunks_of(len(cache.length)):
        samples = np.append(chosen, part.start + np.flatnonzero(cache.is_of(VALIDATION, part)))
        source = cache.source[samples]
        order = np.lexsort((mix64(key ^ samples.astype(np.uint64)), source))
        source = source[order]
        within = np.arange(len(source)) - np.searchsorted(source, source)
        chosen = samples[order[within < samples_per_source]]
    return np.sort(chosen)


def read_texts(cache: TokenCache, samples: np.ndarray, device: torch.device) -> list[np.ndarray]:
    """The tokens of each of some samples; of those behind a URL each rank asks for its part alone."""
    if cache.store is None or not dist.is_initialized():
        return cache.texts(samples)
    ends = np.cumsum(cache.length[samples], dtype=np.int64)
    flat = np.zeros(ends[-1], np.int64)
    own = slice(dist.get_rank(), None, dist.get_world_size())
    for end, tokens in zip(ends[own], cache.texts(samples[own]), strict=False):  # there may be more ranks than samples
        flat[end - len(tokens) : end] = tokens
    shared = torch.from_numpy(flat).to(device)
    dist.all_reduce(shared)
    return np.split(shared.cpu().numpy(), ends[:-1])


def evaluate(
    losses: TokenLoss,
    cache: TokenCache,
    pairs: TopicPairs,
    samples: np.ndarray,
    texts: list[np.ndarray],
    context_length: int,
    device: torch.device,
) -> Evaluation:
    """Score `samples` of some `texts`, the batches shared between the ranks; the same bits on any number of them."""
    share = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    nats, num_tokens = score_samples(
        losses.model,
        [tokens.tolist() for tokens in texts],
        bos_id=cache.meta["eos_id"],
        context_length=context_length,
        device=device,
        share=share,
        forward=losses.logits,
    )
    if dist.is_initialized():
        shared = nats.to(device)
        dist.all_reduce(shared)
        nats = shared.cpu()
    sources = torch.from_numpy(cache.source[samples].astype(np.int64))
    num_bytes = torch.from_numpy(cache.num_bytes[samples].astype(np.float64))
    # (num_sources, 3): nats, tokens, bytes
    sums = torch.zeros(len(cache.sources), 3, dtype=torch.float64)
    sums.index_add_(0, sources, torch.stack((nats, num_tokens.double(), num_bytes), dim=1))
    return _summarize(cache.sources, sums, _topic_sums(pairs, samples, nats / num_tokens))


def _topic_sums(pairs: TopicPairs, samples: np.ndarray, losses: torch.Tensor) -> torch.Tensor:
    """(num_topics, 2) float64: probability times loss, and probability, summed over the samples."""
    sums = torch.zeros(len(pairs.names), 2, dtype=torch.float64)
    for sample, loss in zip(samples.tolist(), losses.tolist(), strict=True):
        for pair in range(pairs.indptr[sample], pairs.indptr[sample + 1]):
            prob = float(pairs.prob[pair])
            sums[pairs.topic[pair]] += torch.tensor([prob * loss, prob], dtype=torch.float64)
    return sums


def _summarize(sources: list[str], sums: torch.Tensor, by_topic: torch.Tensor) -> Evaluation:
    rows = {source_domain(name): row for name, row in zip(sources, sums.tolist(), strict=True) if row[1] > 0}
    loss = {name: nats / tokens for name, (nats, tokens, _) in rows.items()}
    bits = {name: nats / log(2) / max(num_bytes, 1.0) for name, (nats, _, num_bytes) in rows.items()}
    nats, tokens, num_bytes = sums.sum(dim=0).tolist()
    return Evaluation(
        loss,
        bits,
        nats / tokens,
        sum(loss.values()) / len(loss),
        nats / log(2) / max(num_bytes, 1.0),
        sum(bits.values()) / len(bits),
        by_topic[:, 0] / by_topic[:, 1],
    )
