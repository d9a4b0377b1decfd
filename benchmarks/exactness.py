"""What is exact, against what, and by how much it deviates at most: each part beside a second, plain implementation.

    python -m benchmarks.exactness [--seed N]

Policies stand beside tests/reweight/reference*.py, which share no code with the package; losses, gradients and
perplexity beside one forward pass of transformers a sample; sampling beside a search by bisection and a count of the
draws; intervals beside every subset of the documents; FSDP on two ranks beside one. Text is random tokens, models are
small and untrained: what is compared is arithmetic.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from benchmarks.intervals_by_hand import interval_pairs
from benchmarks.sharded import compared
from tests.reweight import reference, reference_rivals
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from toremi_cli.lm.perplexity import score_samples
from toremi_cli.reweight import (
    IntervalStats,
    PolicyConfig,
    PolicyData,
    StratumDraws,
    TopicStatistics,
    make_policy,
    sampling_shares,
)
from toremi_cli.train import token_loss
from toremi_cli.train.loss import normaliser, objective, sample_losses, segment_losses, segment_weights
from toremi_cli.train.token_loss import TokenLoss

Row = tuple[str, str, float]
NUM_INTERVALS = 60
BURN_IN = 100
VOCABULARY, CONTEXT = 211, 32


def relative(found: Any, expected: Any) -> float:
    """Largest deviation, relative to the largest value expected."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-300))


def interval(step: int, losses: list[float | None]) -> IntervalStats:
    """Statistics of an interval, seven samples a topic; None: unseen."""
    loss = torch.tensor([math.nan if x is None else x for x in losses], dtype=torch.float64)
    return IntervalStats(step, loss, torch.where(loss.isnan(), 0, reference_rivals.SAMPLES).long())


def courses(stream: random.Random) -> list[tuple[list[float | None], int]]:
    """Losses of five topics by interval, falling as power laws with jitter, now and then unseen; and the stage."""
    made = []
    for i in range(1, NUM_INTERVALS + 1):
        curves = [a + b * i**-c for a, b, c in ((3, 5, 0.5), (2, 3, 0.5), (4, 3, 2.0), (1, 2, 0.4), (3, 4, 0.6))]
        losses = [x * stream.uniform(0.97, 1.03) if stream.random() > 0.15 else None for x in curves]
        made.append((losses, 2 if i > NUM_INTERVALS // 2 else 1))
    return made


def policies(seed: int) -> Iterator[Row]:
    """Weights over a course of intervals."""
    course, topics = courses(random.Random(seed)), reference_rivals.TOPICS
    data = PolicyData(sizes=reference_rivals.SIZES, reference_loss=reference_rivals.TARGET)
    for name in ("group-dro", "shearing", "odm", "ado", "stratified", "temperature"):
        policy = make_policy(PolicyConfig(name=name, burn_in_steps=BURN_IN, temperature=10 / 3), topics, data)
        pairs = zip(course, reference_rivals.REFERENCES[name](course), strict=True)
        found = [
            (policy.update(interval(25 * i, losses)).tolist(), plain) for i, ((losses, _), plain) in enumerate(pairs, 1)
        ]
        yield f"policy {name}", "plain Python on lists", max(relative(*both) for both in found)
    for name in ("toremi-1", "toremi-2"):
        for rule in ("multiplicative", "additive"):
            yield f"policy {name}, {rule}", "exact fractions", _paper_policy(name, rule, course)


def _paper_policy(name: str, rule: str, course: list[tuple[list[float | None], int]]) -> float:
    topics = reference_rivals.TOPICS
    policy = make_policy(PolicyConfig(name=name, rule=rule), topics)
    seen = [{t: x for t, x in zip(topics, losses, strict=True) if x is not None} for losses, _ in course]
    switch = 25 * (NUM_INTERVALS // 2 + 1)
    steps = [(25 * i, losses) for i, losses in enumerate(seen, 1)]
    plain = reference.trajectory(name, steps, switch, rule=rule, alpha=1.0, w_min=0.1, w_max=5.0)
    worst = 0.0
    for (losses, stage), row in zip(course, plain, strict=True):
        weights = policy.update(interval(row["step"], losses), stage).tolist()
        worst = max(worst, relative(weights, [row["weights"].get(topic, 1.0) for topic in topics]))
    return worst


def model(tied: bool, seed: int) -> GPT2LMHeadModel:
    """An untrained GPT-2 of two layers, far from uniform."""
    torch.manual_seed(seed)
    shape = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, tie_word_embeddings=tied,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    return GPT2LMHeadModel(shape)


def packed(seed: int) -> SimpleNamespace:
    """Four rows of tokens, cut into 13 segments of 10 samples: three samples go on in the next row."""
    stream = np.random.default_rng(seed)
    cuts = [[0, 9, 20, 27, 32], [0, 7, 32], [0, 5, 18, 32], [0, 12, 21, 26, 32]]
    lengths = [b - a for row in cuts for a, b in pairwise(row)]
    # (13,) the sample of each segment: the last of a row goes on as the first of the next
    sample = np.array([0, 1, 2, 3, 3, 4, 4, 5, 6, 6, 7, 8, 9])
    total = np.bincount(sample, lengths)
    topics = [(s, t) for s, own in enumerate(sample) for t in {int(own) % 4, int(own) * 7 % 5}]
    tokens = torch.from_numpy(stream.integers(1, VOCABULARY, (2, 4, CONTEXT)))
    return SimpleNamespace(
        inputs=tokens[0],
        targets=tokens[1],
        segment=torch.arange(13).repeat_interleave(torch.tensor(lengths)),
        sample=sample,
        num_predicted=torch.from_numpy(total[sample]).float(),
        num_tokens=torch.tensor(lengths, dtype=torch.float64),
        mass=torch.tensor([float(n / total[s]) for n, s in zip(lengths, sample, strict=True)]),
        pair_segment=torch.tensor([s for s, _ in topics]),
        pair_topic=torch.tensor([t for _, t in topics]),
        pair_prob=torch.ones(len(topics)),
        stratum=torch.zeros(13, dtype=torch.int64),
    )


def losses(seed: int) -> Iterator[Row]:
    """The step's loss, its gradients and the topics' mean losses."""
    for tied in (True, False):
        for chunked in (False, True):
            for average in ("sample", "token"):
                loss, gradient, by_topic = _loss(tied, chunked, average, seed)
                case = f"{'tied' if tied else 'untied'}{', chunked' if chunked else ''}, by {average}"
                yield f"loss ({case})", "a loop over tokens, float64", loss
                yield f"gradients ({case})", "a loop over tokens, float64", gradient
                if average == "sample":
                    yield f"topic losses ({case})", "a loop over tokens, float64", by_topic


def _loss(tied: bool, chunked: bool, average: str, seed: int) -> tuple[float, float, float]:
    batch, weights = packed(seed), torch.tensor([0.1, 0.7, 1.0, 2.5, 5.0], dtype=torch.float64)
    ours, plain = model(tied, seed), model(tied, seed).double()
    found = segment_losses(TokenLoss(ours, chunked=chunked)(batch.inputs, batch.targets), batch)
    factors = segment_weights(batch, weights, torch.ones(1, dtype=torch.float64))
    mass, tokens = float(batch.mass.sum()), batch.targets.numel()
    total = objective(found, batch, factors, average) / normaliser(mass, tokens, average)
    total.backward()
    statistics = TopicStatistics(5)
    pairs = batch.pair_segment, batch.pair_topic, batch.pair_prob
    statistics.add(sample_losses(found, batch), batch.mass, *pairs, sample_tokens=batch.num_tokens)

    logits = plain(input_ids=batch.inputs).logits.flatten(0, 1)
    nats = [-torch.log_softmax(row, 0)[target] for row, target in zip(logits, batch.targets.flatten(), strict=True)]
    of_sample: dict[int, list[Any]] = {}
    for value, segment in zip(nats, batch.segment.tolist(), strict=True):
        of_sample.setdefault(int(batch.sample[segment]), []).append(value)
    carried = {s: {s % 4, s * 7 % 5} for s in of_sample}
    weight = {s: sum(float(weights[t]) for t in own) / len(own) for s, own in carried.items()}
    means = {s: sum(values) / len(values) for s, values in of_sample.items()}
    if average == "sample":
        expected = sum(weight[s] * means[s] for s in means) / len(means)
    else:
        expected = sum(weight[s] * sum(values) for s, values in of_sample.items()) / len(nats)
    expected.backward()
    by_topic = [[means[s].item() for s, own in carried.items() if topic in own] for topic in range(5)]
    gradients = zip(ours.parameters(), plain.parameters(), strict=True)
    return (
        relative(total.item(), expected.item()),
        max(relative(a.grad, b.grad) for a, b in gradients),
        relative(statistics.read(0).loss, [sum(values) / len(values) for values in by_topic]),
    )


def bf16(seed: int) -> Iterator[Row]:
    """Chunked against whole logits where the model is bfloat16: the losses are float32 either way."""
    batch = packed(seed)
    for tied in (True, False):
        found = []
        for chunked in (False, True):
            values = TokenLoss(model(tied, seed).bfloat16(), chunked=chunked)(batch.inputs, batch.targets)
            found.append(values.detach().double())
        logits = model(tied, seed).bfloat16()(input_ids=batch.inputs).logits.double().flatten(0, 1)
        plain = functional.cross_entropy(logits, batch.targets.flatten(), reduction="none").view_as(found[0])
        name = "tied" if tied else "untied"
        for case, values in zip((name, f"{name}, chunked"), found, strict=True):
            yield f"token losses in bf16 ({case})", "float64 over the same logits", relative(values, plain.detach())


def sampling(seed: int) -> Iterator[Row]:
    """Shares between floor and cap, and how closely draws follow them."""
    stream = np.random.default_rng(seed)
    worst = behind = 0.0
    for _ in range(200):
        number = int(stream.integers(2, 40))
        sizes, weights = stream.integers(1, 5000, number), stream.lognormal(0, 1.5, number)
        drawn, remaining = stream.integers(0, 2 * sizes), int(sizes.sum() * stream.uniform(0.2, 1.5))
        found = sampling_shares(weights, sizes, floor=0.1, max_repeats=4.0, drawn=drawn, remaining=remaining)
        worst = max(worst, float(np.abs(found - _shares(weights, sizes, drawn, remaining)).max()))
        draws = StratumDraws(found, seed, "exactness")
        counts = np.bincount(draws.advance(20_000)[0], minlength=number)
        behind = max(behind, float(np.abs(counts - 20_000 * found).max()))
    yield "sampling shares", "water-filling, one stratum at a time (absolute)", worst
    yield "draws from a stratum", "their exact share of 20,000 (in draws)", behind


def _shares(weights: np.ndarray, sizes: np.ndarray, drawn: np.ndarray, remaining: int) -> list[float]:
    """clip(c * wanted, low, high) with sum 1: c is found by going from breakpoint to breakpoint."""
    natural = [n / sizes.sum() for n in sizes]
    high = [min(1.0, max(4 * n - d, 0) / remaining) for n, d in zip(sizes, drawn, strict=True)]
    if sum(max(4 * n - d, 0) / remaining for n, d in zip(sizes, drawn, strict=True)) <= 1:
        return [h / sum(high) for h in high]
    low = [min(0.1 * n, h) for n, h in zip(natural, high, strict=True)]
    mass = [w * n for w, n in zip(weights, sizes, strict=True)]
    parts = list(zip([m / sum(mass) for m in mass], low, high, strict=True))

    def total(c: float) -> float:
        return math.fsum(min(max(c * w, a), b) for w, a, b in parts)

    edges = sorted(edge for w, a, b in parts for edge in (a / w, b / w))
    at = next((i for i, edge in enumerate(edges) if total(edge) >= 1), len(edges) - 1)
    before, after = edges[max(at - 1, 0)], edges[at]
    gain = total(after) - total(before)  # linear between two neighbouring breakpoints
    c = before + (1 - total(before)) / gain * (after - before) if gain > 0 else after
    return [min(max(c * w, a), b) for w, a, b in parts]


def perplexity(seed: int) -> Iterator[Row]:
    """Nats of samples shorter and longer than the context, in disjoint and in sliding windows."""
    stream, lm = np.random.default_rng(seed), model(True, seed).eval()
    samples = [stream.integers(1, VOCABULARY, n).tolist() for n in (1, 5, 31, 32, 33, 90, 64, 17)]
    for stride, name in ((None, "disjoint windows"), (8, "stride 8")):
        with torch.no_grad():
            found, _ = score_samples(lm, samples, bos_id=0, context_length=CONTEXT, device="cpu", stride=stride)
            expected = [sum(_nats(lm, tokens, i, stride) for i in range(len(tokens))) for tokens in samples]
        yield f"perplexity, {name}", "one forward pass of transformers a token", relative(found, expected)


def _nats(lm: GPT2LMHeadModel, tokens: list[int], index: int, stride: int | None) -> float:
    """-log p of token `index` of a sample, in the window that counts it."""
    whole, position = [0, *tokens], index + 1
    if stride is None:
        begin = index // CONTEXT * CONTEXT
    elif position <= CONTEXT:
        begin = 0
    else:
        begin = min(CONTEXT + ((index - CONTEXT) // stride + 1) * stride, len(tokens)) - CONTEXT
    logits = lm(input_ids=torch.tensor([whole[begin:position]])).logits[0, -1].double()
    return float(-torch.log_softmax(logits, 0)[whole[position]])


def intervals(seed: int) -> Iterator[Row]:
    """Intervals of a difference: of one source by its halves, of several by t."""
    for what, against, found, expected in interval_pairs(seed):
        yield what, against, relative(found, expected)


def fsdp(seed: int) -> Iterator[Row]:
    """Two ranks that share parameters, gradients and optimizer state, after four steps."""
    for case, measured, gradients in compared(seed):
        yield f"FSDP ({case}): losses, weights", "one rank", max(relative(*pair) for pair in measured)
        yield f"FSDP ({case}): gradients", "one rank", relative(*gradients)


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "policies": policies,
    "losses": losses,
    "bf16": bf16,
    "sampling": sampling,
    "perplexity": perplexity,
    "intervals": intervals,
    "fsdp": fsdp,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| what | against | largest deviation |\n|---|---|---:|")
    for part in options.parts:
        for what, against, deviation in PARTS[part](options.seed):
            print(f"| {what} | {against} | {deviation:.1e} |", flush=True)


if __name__ == "__main__":
    token_loss.CHUNK_LOGITS = 5 * VOCABULARY  # several chunks also of so few tokens
    main()
