"""Policies side by side on known domains: a small GPT, the domains themselves as topics, clean or with noise planted.

    python examples/harvest_corpus.py demo-out/corpus
    python benchmarks/policies.py demo-out/corpus --policies uniform,stratified,toremi-2,toremi --seeds 0,1

The claim under test: `toremi` learns the clean domains better than `toremi-2`, `uniform` and `stratified`, with and
without noise. With --noise, the characters of the largest domain's training text are shuffled. Reported is the macro
mean over the clean domains of held-out nats a token; same model, data and number of tokens for all. `--set` passes
settings to every policy (ablations: `--set learning_state=false`). It uses the pure policies and nothing of the
trainer, so it is also the shortest whole program that reweights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import statistics
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

from toremi_cli.replay import policy_config
from toremi_cli.reweight import (
    PolicyConfig,
    PolicyData,
    StageSwitch,
    StratumDraws,
    TopicStatistics,
    el2n_squared,
    make_policy,
    normalizer,
    sample_weights,
    sampling_shares,
    segment_mean,
)

VOCABULARY, ROW, ROWS, SAMPLE = 2048, 128, 16, 256
PEAK_RATE, WIDTH, LAYERS, HEADS = 3e-3, 96, 2, 4
HELD_OUT_TOKENS, LONGEST_HELD_OUT = 20_000, 512
END = 0


@dataclass
class Corpus:
    """Token samples of each domain."""

    names: list[str]
    train: list[list[np.ndarray]]
    held_out: list[np.ndarray]
    noisy: int
    """Index of the domain with shuffled characters; -1 for none."""


def read_corpus(folder: Path, noise: bool) -> Corpus:
    """A domain a JSONL file; every tenth document, by hash, is held out."""
    texts = {
        p.stem: [json.loads(line)["text"] for line in p.open(encoding="utf-8")] for p in sorted(folder.glob("*.jsonl"))
    }
    noisy = max(texts, key=lambda name: sum(map(len, texts[name]))) if noise else ""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((text[:20_000] for domain in texts.values() for text in domain), trainer)
    corpus = Corpus(list(texts), [], [], list(texts).index(noisy) if noise else -1)
    for name, documents in texts.items():
        train: list[np.ndarray] = []
        held: list[np.ndarray] = []
        for i, text in enumerate(documents):
            if int(hashlib.md5(text[:500].encode()).hexdigest(), 16) % 10 == 0 or (
                len(documents) < 100 and i % 10 == 0
            ):
                held.append(np.array([END, *tokenizer.encode(text[:10_000]).ids[:LONGEST_HELD_OUT]]))
                continue
            if name == noisy:
                characters = list(text)
                random.Random(i).shuffle(characters)
                text = "".join(characters)
            tokens = tokenizer.encode(text).ids
            train += [np.array([*tokens[k : k + SAMPLE], END]) for k in range(0, len(tokens), SAMPLE)]
        corpus.train.append(train)
        corpus.held_out.append(np.concatenate(held)[:HELD_OUT_TOKENS])
    return corpus


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        # (b, T, 3 * width) -> 3 x (b, heads, T, width / heads)
        q, k, v = self.qkv(self.norm1(x)).view(rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """0.4M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(ROW, WIDTH)
        self.blocks, self.norm = nn.Sequential(*(Block() for _ in range(LAYERS))), nn.LayerNorm(WIDTH)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(self.blocks(self.embed(tokens) + self.position.weight)) @ self.embed.weight.T


class Stream:
    """Packed rows of drawn samples, without padding; a cut sample goes on in the next batch."""

    def __init__(self, corpus: Corpus, shares: np.ndarray, seed: int) -> None:
        self.corpus, self.seed, self.draws = corpus, seed, StratumDraws(shares, seed, "samples")
        self.orders: dict[tuple[int, int], np.ndarray] = {}
        self.tokens = self.owner = np.zeros(0, np.int64)
        self.domain: list[int] = []
        self.length: list[int] = []

    def sample(self, domain: int, ordinal: int) -> np.ndarray:
        """Draw number `ordinal` of a domain: each sample once before any comes twice."""
        samples = self.corpus.train[domain]
        key = (domain, ordinal // len(samples))
        if key not in self.orders:
            self.orders[key] = np.random.default_rng([self.seed, *key]).permutation(len(samples))
        return samples[self.orders[key][ordinal % len(samples)]]

    def next_batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Inputs and targets (rows, row); of each target its segment; of each segment domain and sample length."""
        need = ROWS * ROW
        while len(self.tokens) <= need:
            for domain, ordinal in zip(*self.draws.advance(8), strict=True):
                tokens = self.sample(int(domain), int(ordinal))
                self.owner = np.concatenate([self.owner, np.full(len(tokens), len(self.domain))])
                self.tokens = np.concatenate([self.tokens, tokens])
                self.domain.append(int(domain))
                self.length.append(len(tokens))
        inputs, targets = self.tokens[:need], self.tokens[1 : need + 1]
        samples, segment = np.unique(self.owner[1 : need + 1], return_inverse=True)
        domain, length = np.array(self.domain)[samples], np.array(self.length)[samples]
        self.tokens, self.owner = self.tokens[need:], self.owner[need:]
        shaped = (torch.from_numpy(x).view(ROWS, ROW) for x in (inputs, targets))
        return (*shaped, *(torch.from_numpy(x) for x in (segment, domain, length)))  # type: ignore[return-value]


def evaluate(model: Gpt, corpus: Corpus) -> list[float]:
    """Held-out nats a token of each domain."""
    losses = []
    with torch.no_grad():
        for tokens in corpus.held_out:
            rows = (len(tokens) - 1) // ROW
            inputs, targets = (torch.from_numpy(tokens[k : k + rows * ROW]).view(rows, ROW) for k in (0, 1))
            losses.append(functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).item())
    return losses


def run(
    corpus: Corpus, config: PolicyConfig, seed: int, steps: int, interval: int
) -> tuple[list[float], dict[str, float]]:
    """Train once; return held-out losses and last weights by domain."""
    torch.manual_seed(seed)
    model, num_topics = Gpt(), len(corpus.names)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    tokens = [sum(map(len, samples)) for samples in corpus.train]
    sizes = np.array([len(samples) for samples in corpus.train])
    policy = make_policy(config, corpus.names, PolicyData(sizes=tokens))
    switch = StageSwitch(config.stage_switch, steps)
    total_draws = int(steps * ROWS * ROW * sizes.sum() / sum(tokens))

    def shares(drawn: np.ndarray | None, remaining: int) -> np.ndarray:
        weights = np.ones(num_topics) if policy.apply == "loss" else policy.weights.numpy()
        limits = {"floor": config.sampling_floor, "max_repeats": config.max_repeats}
        return sampling_shares(weights, sizes, drawn=drawn, remaining=remaining, **limits)

    stream = Stream(corpus, shares(None, total_draws), seed)
    statistic, loss_scale = TopicStatistics(num_topics, topics=corpus.names), 1.0
    on_loss = policy.weights if policy.apply == "loss" else torch.ones(num_topics).double()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(step / 50, 1) * (0.55 + 0.45 * math.cos(math.pi * step / steps))
        inputs, targets, segment, domain, length = stream.next_batch()
        logits = model(inputs).flatten(0, 1)
        losses = functional.cross_entropy(logits, targets.flatten(), reduction="none")
        count, index = len(domain), torch.arange(len(domain))
        mass = torch.zeros(count).index_add(0, segment, torch.ones_like(losses)) / length
        sample_loss = torch.zeros(count).index_add(0, segment, losses) / length
        weights = sample_weights(on_loss, index, domain, torch.ones(count), count).float()
        if policy.sample_level:
            weights = weights * policy.sample_factors(sample_loss.detach() / mass, step)
        optimizer.zero_grad()
        (loss_scale * torch.dot(weights, sample_loss) / mass.sum()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        sensitivity = segment_mean(el2n_squared(logits, losses), segment, count)
        statistic.add(sample_loss, mass, index, domain, torch.ones(count), sample_sensitivity=sensitivity)
        if step % interval == 0:
            stats = statistic.read(step)
            statistic.reset()
            policy.update(stats, switch.stage_for(step))
            if policy.apply == "loss":
                on_loss = policy.weights
                loss_scale = normalizer(on_loss, stats) if config.normalize else 1.0
            else:
                stream.draws.set_shares(shares(stream.draws.counts, max(1, total_draws - stream.draws.index)))
    return evaluate(model, corpus), dict(zip(corpus.names, policy.weights.tolist(), strict=True))


def main() -> None:
    """Run every policy with every seed; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of JSONL files, one a domain")
    parser.add_argument("--policies", default="uniform,stratified,toremi-2,toremi")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--noise", action="store_true", help="shuffle the characters of the largest domain")
    parser.add_argument("--steps", type=int, default=500, help="of 2,048 tokens")
    parser.add_argument("--interval", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="setting of every policy")
    parser.add_argument("--out", type=Path, help="append a JSON line for each run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = read_corpus(options.corpus, options.noise)
    found: dict[str, list[float]] = {}
    for seed, name in product(map(int, options.seeds.split(",")), options.policies.split(",")):
        start = time.perf_counter()
        config = policy_config(["burn_in_steps=100", *options.set], name=name, stage_switch="fraction:0.5")
        losses, weights = run(corpus, config, seed, options.steps, options.interval)
        macro = statistics.mean(loss for k, loss in enumerate(losses) if k != corpus.noisy)
        found.setdefault(name, []).append(macro)
        noise = f", weight of the noise {weights[corpus.names[corpus.noisy]]:.2f}" if options.noise else ""
        print(f"{name:16} seed {seed}: {macro:.4f}{noise} ({time.perf_counter() - start:.0f} s)", flush=True)
        if options.out:
            record = {"policy": name, "seed": seed, "noise": options.noise, "set": options.set, "macro": macro}
            with options.out.open("a") as file:
                file.write(json.dumps({**record, "losses": losses, "weights": weights}) + "\n")
    print(f"\n{'policy':16} {'macro nats a token':>18}   seeds")
    for name, values in sorted(found.items(), key=lambda item: statistics.mean(item[1])):
        spread = f"+-{statistics.stdev(values):.3f}" if len(values) > 1 else ""
        print(f"{name:16} {statistics.mean(values):11.4f}{spread:>7}   {len(values)}")


if __name__ == "__main__":
    main()
