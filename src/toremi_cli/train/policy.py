"""The run's policy, with the facts about the corpus and other runs that it needs."""

from __future__ import annotations

from pathlib import Path

from toremi_cli import console
from toremi_cli.errors import UsageError, some
from toremi_cli.reweight import Policy, PolicyConfig, PolicyData, StageSwitch, make_policy, policy_class
from toremi_cli.reweight.policies.base import MEASURES
from toremi_cli.reweight.policies.shuffled_topics import ShuffledTopics
from toremi_cli.schemas import LOSSES
from toremi_cli.tables import TableReader
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.index import SampleIndex
from toremi_cli.train.tokens import TokenCache
from toremi_cli.train.topic_costs import topic_costs
from toremi_cli.train.weights_from import course_from

REFERENCE_PART = 0.1
"""The part of a run, at its end, whose losses are what it reached."""


def build_policy(
    config: TrainConfig, cache: TokenCache, index: SampleIndex, max_steps: int
) -> tuple[Policy, StageSwitch]:
    """The policy and its stage switch.

    Args:
        config: names the policy and its settings.
        cache: the corpus.
        index: its samples and topics.
        max_steps: of the run.

    Raises:
        UsageError: a setting out of range, or something that the policy needs is not given.
    """
    pairs = index.pairs
    if not pairs.names and config.policy["name"] != "uniform":
        raise UsageError(
            f"--policy {config.policy['name']}: no sample has a topic by --topics {config.topics}, so nothing can be "
            "reweighted; use --topics fine, or give names with `toremi annotate --relabel --taxonomy none`"
        )
    try:
        policy_config = PolicyConfig(**{**config.policy, "seed": config.seed})
        ngram_loss = unigram_loss = None
        if _acting(config).uses_ngrams:
            ngram_loss, unigram_loss = topic_costs(cache, config.topics, index).tolist()
        data = PolicyData(
            sizes=index.topic_sizes[int(config.loss_average == "token")].tolist() if pairs.names else None,
            crowding=pairs.crowding,
            ngram_loss=ngram_loss,
            unigram_loss=unigram_loss,
            reference_loss=_reference_losses(config.reference_losses, policy_config.loss_unit, pairs.names),
            course=course_from(config, pairs.names),
        )
        switch = StageSwitch(policy_config.stage_switch, max_steps, policy_config.plateau_threshold)
        policy = make_policy(policy_config, pairs.names, data)
        policy.check_measures(MEASURES - (set() if config.sensitivity else {"sensitivity"}))
        return policy, switch
    except ValueError as problem:
        raise UsageError(f"--policy {config.policy['name']}: {problem}{_hint(str(problem))}") from None


def _acting(config: TrainConfig) -> type[Policy]:
    """The policy whose arithmetic decides."""
    name = config.policy["name"]
    return policy_class(config.policy.get("of", name) if name == ShuffledTopics.name else name)


def _hint(problem: str) -> str:
    if "reference_loss" in problem:
        return "; give a table of topic losses with --reference-losses"
    if "needs sensitivity" in problem:
        return "; measure it with --sensitivity"
    return "; give another run's table with --weights-from" if "course" in problem else ""


def _reference_losses(path: str | None, loss_unit: str, topics: list[str]) -> list[float] | None:
    """The loss of each topic that a run ended with: over its last tenth, or where that saw none of it, the last.

    A single interval has a few samples of a small topic, and its loss would be theirs. A topic that the run never met
    gets the mean over the others, by samples of the last tenth.

    Raises:
        ValueError: a topic is not in the table, none has a loss, or the policy counts losses in another unit than
            tables do.
    """
    if not path:
        return None
    if loss_unit != "token":
        raise ValueError(
            f"--reference-losses {path} are nats a token, not comparable with losses by {loss_unit}; "
            "use --set loss_unit=token"
        )
    rows = TableReader(Path(path), LOSSES).read(["step", "topic", "loss", "num_samples"]).sort_by("step").to_pylist()
    late = (1 - REFERENCE_PART) * rows[-1]["step"] if rows else 0.0
    last: dict[str, float] = {}
    sums: dict[str, tuple[float, int]] = {}
    for row in (row for row in rows if row["loss"] is not None):
        topic, loss, count = row["topic"], row["loss"], max(row["num_samples"] or 0, 1)
        last[topic] = loss
        if row["step"] > late:
            total, number = sums.get(topic, (0.0, 0))
            sums[topic] = (total + count * loss, number + count)
    last |= {topic: total / number for topic, (total, number) in sums.items()}
    if unknown := set(topics) - {row["topic"] for row in rows}:
        raise ValueError(f"--reference-losses {path} has no topic {min(unknown)!r}; expected those of this run")
    if not sums:
        raise ValueError(f"--reference-losses {path} has no loss of any topic")
    met = sum(total for total, _ in sums.values()) / sum(number for _, number in sums.values())
    if unmet := [topic for topic in topics if topic not in last]:
        console.note(
            f"--reference-losses {path}: its run never met {some(unmet, 3)}; the mean of the others, {met:.3f}, "
            "stands for the loss there"
        )
    return [last.get(topic, met) for topic in topics]
