"""Topic reweighting in a loop of your own: PyTorch, no trainer.

    python examples/plain_loop.py --policy toremi --steps 60 --state /tmp/loop.pt

What is toremi's: a policy, `TopicStatistics` of the losses, and either `sample_weights` on the loss, or `TopicStreams`
whose shares follow the policy. With --state the run is saved at its end, and goes on from there the next time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from texts import CONTEXT_BYTES, texts
from toremi_cli.integrations.streams import TopicStreams
from toremi_cli.reweight import (
    POLICIES,
    PolicyConfig,
    PolicyData,
    TopicStatistics,
    context_sums,
    make_policy,
    other_tokens,
    sample_weights,
)

BATCH, INTERVAL = 16, 10


def samples(text: str) -> list[torch.Tensor]:
    """Pieces of bytes, (CONTEXT_BYTES + 1,) int64 each."""
    data = torch.tensor(list(text.encode())[: 800 * CONTEXT_BYTES])
    return list(data.unfold(0, CONTEXT_BYTES + 1, CONTEXT_BYTES))


class Bigrams(torch.nn.Module):
    """A model small enough for an example."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Embedding(256, 64), torch.nn.Linear(64, 256))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, T) bytes to (B, T, 256) logits."""
        return self.layers(inputs)


def main() -> None:
    """Train, print the weights and what was drawn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="toremi", choices=POLICIES)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--state", type=Path, help="file to go on from, and to save to")
    options = parser.parse_args()

    torch.manual_seed(0)
    model = Bigrams()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    pieces = {topic: samples(text) for topic, text in texts().items()}
    topics, sizes = list(pieces), [float(len(of_topic)) for of_topic in pieces.values()]
    try:
        policy = make_policy(PolicyConfig(name=options.policy), topics, PolicyData(sizes=sizes))
    except ValueError as problem:
        parser.error(f"--policy {options.policy}: {problem}")
    node = TopicStreams({topic: lambda rows=rows: rows for topic, rows in pieces.items()}, sizes)
    statistics, step = TopicStatistics(len(topics), topics=topics), 0
    parts = {"model": model, "optimizer": optimizer, "policy": policy, "node": node}
    if options.state and options.state.exists():
        saved = torch.load(options.state, weights_only=True)
        step = saved["step"]
        statistics.buffer.copy_(saved["statistics"])
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    on_loss = policy.apply == "loss"
    if not on_loss:
        node.set_weights(policy.weights)
    sample, prob = torch.arange(BATCH), torch.ones(BATCH)  # a topic each
    while step < options.steps:
        names, rows = zip(*(next(node) for _ in range(BATCH)), strict=True)
        topic, tokens = torch.tensor([topics.index(name) for name in names]), torch.stack(rows)
        log_probs, targets = model(tokens[:, :-1]).log_softmax(-1), tokens[:, 1:]
        token_losses = cross_entropy(log_probs.transpose(1, 2), targets, reduction="none")
        losses = token_losses.mean(1)
        weights = sample_weights(policy.weights, sample, topic, prob, BATCH).float() if on_loss else prob
        (weights * losses).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        segment = sample.repeat_interleave(CONTEXT_BYTES)
        begins = targets.flatten() < ord("0")  # spaces and most punctuation: tokens are bytes here
        others = targets.flatten()[other_tokens(segment, CONTEXT_BYTES, begins)]
        shuffled = -log_probs.detach().flatten(0, 1).gather(1, others)
        context = context_sums(token_losses.flatten(), shuffled, segment, BATCH, begins)
        counts = torch.full((BATCH,), float(CONTEXT_BYTES))
        natural = torch.from_numpy(node.natural / node.natural.sum() / node.draws.shares)[topic]
        statistics.add(losses, prob, sample, topic, natural, sample_tokens=counts, sample_context=context)
        step += 1
        if step % INTERVAL == 0:  # on several ranks after torch.distributed.all_reduce(statistics.buffer)
            policy.update(statistics.read(step))
            statistics.reset()
            if not on_loss:
                node.set_weights(policy.weights)

    if options.state:
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"step": step, "statistics": statistics.buffer, **states}, options.state)
    for topic, weight, drawn in zip(topics, policy.weights.tolist(), node.draws.counts.tolist(), strict=True):
        print(f"{topic:10}{weight:8.4f}{drawn:8}")


if __name__ == "__main__":
    main()
