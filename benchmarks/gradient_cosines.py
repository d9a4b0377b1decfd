"""A rival for worth, trained: how far a topic's gradient points where those of the others do (R&B, arXiv 2505.00358).

    python -m benchmarks.gradient_cosines WORKDIR --model model.json --seeds 101

As `benchmarks/policy_constants.py`, with the policy's trust in a topic taken from the mean cosine c of its gradient at
one layer with those of all others, over the text's median m: min(1, c / m)^2, at least 1e-14; alone, or times the
trust that worth gives. Measured anew on some training text of each topic after every fourth interval. WORKDIR's table
`annotated` names the topics; the model is a GPT-2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import torch
from benchmarks.policy_constants import arguments, print_table
from benchmarks.topic_signals import sums_and_cosines, topic_samples
from tokenizers import Tokenizer
from torch import Tensor

from toremi_cli.lm.words import word_beginnings
from toremi_cli.reweight.policies.data import weights_of_shares
from toremi_cli.reweight.policies.toremi import Toremi
from toremi_cli.train import loop

EVERY = 4
"""Intervals between two measurements."""
MOST_TOKENS = 1000
"""Of each topic."""
VARIANTS = {"cosines alone": False, "worth and cosines": True}
"""Whether worth counts, too."""


class Measuring:
    """What the policy is patched with: the model as it stands, and samples of each topic."""

    def __init__(self, workdir: Path, with_worth: bool) -> None:
        """Read the samples."""
        tokenizer = Tokenizer.from_file(str(workdir / "tokenizer" / "tokenizer.json"))
        self.samples = topic_samples(workdir / "annotated", tokenizer, MOST_TOKENS)
        self.begins = torch.from_numpy(word_beginnings(tokenizer, tokenizer.get_vocab_size()))
        named = ds.dataset(workdir / "topics.parquet").to_table(["topic", "name"]).to_pylist()
        self.names = [row["name"] for row in sorted(named, key=lambda row: row["topic"]) if row["topic"] >= 0]
        self.with_worth = with_worth
        self.intervals = 0
        self.cosines: Tensor | None = None
        self.model: Any = None

    def measure(self) -> None:
        """Take the cosines anew; gradients are left as they were, none."""
        self.intervals += 1
        if self.intervals % EVERY == 0:
            self.cosines = sums_and_cosines(self.model, self.samples, self.begins)[1].double()
            self.model.requires_grad_(True)
            self.model.zero_grad(set_to_none=True)

    def trust(self, policy: Toremi) -> Tensor:
        """(num_topics,): how far each topic is trusted."""
        if self.cosines is None:
            return torch.ones_like(policy.natural)
        assert list(policy.topics) == self.names
        return policy._relative(self.cosines.clamp_min(0)).square().clamp_min(1e-14)


def install(workdir: str, with_worth: bool) -> None:
    """Patch trainer and policy of this process."""
    state = Measuring(Path(workdir), with_worth)
    step, updated, weights = loop.train_step, Toremi._updated, Toremi._weights

    def train_step(run: Any, batch: Any) -> None:
        state.model = run.model
        step(run, batch)

    def by_cosines(policy: Toremi) -> Tensor:
        trust = state.trust(policy)
        if state.with_worth:
            return weights_of_shares(policy.natural * weights(policy) * trust, policy.natural)
        raised = torch.where(policy.natural > 0, policy.base / policy.natural, 1.0)
        shares = policy.natural * trust * torch.where(raised > 1, raised**trust, raised)
        return weights_of_shares(shares / shares.sum(), policy.natural)

    def measured(policy: Toremi, *interval: Any) -> Tensor:
        state.measure()
        return updated(policy, *interval)

    loop.train_step, Toremi._updated, Toremi._weights = train_step, measured, by_cosines  # type: ignore[method-assign]


def main() -> None:
    """Train what is missing; print a table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    where = str(options.workdir.absolute())
    call = "from benchmarks.gradient_cosines import install; install({!r}, {})"
    print_table({name: call.format(where, with_worth) for name, with_worth in VARIANTS.items()}, options)


if __name__ == "__main__":
    main()
