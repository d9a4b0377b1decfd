"""Which measures of a topic tell noise from text: at the checkpoints of a run whose noise is known.

    python benchmarks/topic_signals.py WORKDIR RUN

RUN must have kept several checkpoints (`--keep-checkpoints`) and be trained on a table of `toremi corrupt`; its model
is a GPT-2. Each topic's measures are taken on the same training samples, at each checkpoint:

    L (S - L)       worth of all tokens
    L (S - L)^2     the same, context twice
    words           worth of the tokens that begin a word
    sensitivity     mean norm of the gradient at the last hidden state
    cosine          mean cosine of a topic's gradient at one layer with those of the others (R&B, arXiv 2505.00358)

Prints AUROC by tokens: the chance that a token of noise has a lower value than one of text.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM

from toremi_cli.layout import Workdir
from toremi_cli.lm.words import word_beginnings
from toremi_cli.reweight import context_sums, other_tokens, worth
from toremi_cli.runs.run import find_runs

MOST_TOKENS, MOST_LENGTH, BATCH = 3_000, 128, 16
"""Looked at of each topic; of each sample; samples at a time."""


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("run")
    options = parser.parse_args()
    workdir = Workdir(options.workdir)
    (run,) = find_runs((options.run,), workdir)
    tokenizer = Tokenizer.from_file(str(workdir.root / "tokenizer" / "tokenizer.json"))
    samples, size, noise = read_samples(Path(run.config["annotated"]), tokenizer)
    begins = torch.from_numpy(word_beginnings(tokenizer, tokenizer.get_vocab_size()))
    checkpoints = sorted(run.folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for number, checkpoint in enumerate(checkpoints):
        measures = measure(AutoModelForCausalLM.from_pretrained(checkpoint), samples, begins)
        if number == 0:
            print(f"| step | {' | '.join(measures)} |\n|---:|{'---:|' * len(measures)}")
        found = (f"{auroc(values, size, noise):.2f}" for values in measures.values())
        print(f"| {checkpoint.name.split('-')[1]} | {' | '.join(found)} |", flush=True)


def read_samples(annotated: Path, tokenizer: Tokenizer) -> tuple[list[list[list[int]]], np.ndarray, np.ndarray]:
    """Token ids of some training samples of each topic; (num_topics,) its tokens, the part of them that is noise."""
    size: dict[int, int] = defaultdict(int)
    noise: dict[int, int] = defaultdict(int)
    for row in training_rows(annotated, ["topic", "num_tokens", "corrupted"]):
        size[row["topic"]] += row["num_tokens"]
        noise[row["topic"]] += row["num_tokens"] * row["corrupted"]
    sizes, noises = (np.array([of[topic] for topic in sorted(size)], float) for of in (size, noise))
    return topic_samples(annotated, tokenizer, MOST_TOKENS), sizes, noises / sizes


def topic_samples(annotated: Path, tokenizer: Tokenizer, most_tokens: int) -> list[list[list[int]]]:
    """Token ids of some training samples of each topic, of about so many tokens together; topics by number."""
    rows = training_rows(annotated, ["text", "topic"])
    np.random.default_rng(0).shuffle(rows)
    samples: dict[int, list[list[int]]] = defaultdict(list)
    for row in rows:
        if sum(map(len, samples[row["topic"]])) < most_tokens:
            samples[row["topic"]].append(tokenizer.encode(row["text"], add_special_tokens=False).ids[:MOST_LENGTH])
    return [[ids for ids in samples[topic] if len(ids) > 1] for topic in sorted(samples)]


def training_rows(annotated: Path, columns: list[str]) -> list[dict[str, Any]]:
    """Rows of the training samples that have a topic."""
    table = ds.dataset(annotated).to_table(columns, filter=ds.field("split") == "train")
    return [row for row in table.to_pylist() if row["topic"] >= 0]


def measure(model: Any, samples: list[list[list[int]]], begins: Tensor) -> dict[str, np.ndarray]:
    """Each measure, (num_topics,), of a GPT-2 as it stands."""
    sums, cosines = sums_and_cosines(model, samples, begins)
    tokens, nats, shuffled, word_gain, words, sensitivity = sums.double().T
    loss, gain = nats / tokens, (shuffled - nats) / tokens
    found = {
        "L (S - L)": worth(loss, gain), "L (S - L)^2": worth(loss, gain) * gain.clamp_min(0),
        "words": worth(loss, word_gain / words), "sensitivity": sensitivity / tokens, "cosine": cosines,
    }  # fmt: skip
    return {name: values.numpy() for name, values in found.items()}


def sums_and_cosines(model: Any, samples: list[list[list[int]]], begins: Tensor) -> tuple[Tensor, Tensor]:
    """(num_topics, 6) as `batch_sums`; (num_topics,) mean cosine of a topic's gradient with those of the others."""
    model.requires_grad_(False)
    weight = model.transformer.h[-1].mlp.c_proj.weight.requires_grad_(True)
    sums, gradients = torch.zeros(len(samples), 6), torch.zeros(len(samples), weight.numel())
    for topic, of_topic in enumerate(samples):
        for first in range(0, len(of_topic), BATCH):
            weight.grad = None
            sums[topic] += batch_sums(model, of_topic[first : first + BATCH], begins)
            gradients[topic] += weight.grad.flatten()
    unit = torch.nn.functional.normalize(gradients, dim=1)
    return sums, (unit @ unit.T).fill_diagonal_(0).sum(1) / max(len(samples) - 1, 1)


def batch_sums(model: Any, rows: list[list[int]], begins: Tensor) -> Tensor:
    """(6,): tokens, L, S, S - L of words, words, norms of gradients; leaves the gradient of the layer's weight."""
    inputs = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    is_token = torch.arange(1, inputs.shape[1]) < torch.tensor([len(row) for row in rows]).unsqueeze(1)
    hidden = model.transformer(inputs[:, :-1])[0]
    hidden.retain_grad()
    log_probs = model.lm_head(hidden).float().log_softmax(-1).flatten(0, 1)
    targets, valid = inputs[:, 1:].flatten(), is_token.flatten()
    losses = -log_probs.gather(1, targets.unsqueeze(1)).squeeze(1)
    losses[valid].sum().backward()
    segment = 2 * torch.arange(len(rows)).repeat_interleave(is_token.shape[1]) + ~valid
    others = targets[other_tokens(segment, is_token.shape[1], begins[targets])]
    shuffled = -log_probs.detach().gather(1, others) * valid.unsqueeze(1)
    context = context_sums(losses * valid, shuffled, segment, 2 * len(rows), begins[targets] & valid).sum(1)
    norms = hidden.grad.norm(dim=-1).flatten()[valid].sum()
    return torch.stack((valid.sum(), losses.detach()[valid].sum(), *context, norms))


def auroc(values: np.ndarray, size: np.ndarray, noise: np.ndarray) -> float:
    """The chance that a token of noise lies in a topic of lower value than one of text; ties count half.

    Args:
        values, size, noise: (num_topics,) the measure, tokens, and the part of them that is noise.
    """
    order = np.argsort(values, kind="stable")
    noisy, clean = (size * noise)[order], (size * (1 - noise))[order]
    above = clean.sum() - np.cumsum(clean)
    return float(noisy @ (above + clean / 2) / (noisy.sum() * clean.sum()))


if __name__ == "__main__":
    main()
