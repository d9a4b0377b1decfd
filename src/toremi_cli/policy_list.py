"""The policies of `toremi_cli.reweight` by name, for lists and for errors: to name them takes no torch."""

from __future__ import annotations

from typing import NamedTuple


class Listed(NamedTuple):
    """What a list says of a policy."""

    acts_on: str
    """What its weights were made to act on, `loss` or `sampling`; the same as `Policy.acts_on`."""
    summary: str
    """One line."""


POLICY_LIST: dict[str, Listed] = {
    "uniform": Listed("loss", "plain pre-training: every topic weighs 1"),
    "toremi-1": Listed("loss", "the paper's first stage throughout: topics of high loss gain weight"),
    "toremi-2": Listed("loss", "the paper's two stages: in the second, topics of high loss lose weight"),
    "toremi": Listed("sampling", "ours: noise, rote and junk, worth less than most text, are drawn less"),
    "linupper": Listed("loss", "sample weights: low-loss samples of a batch count less (arXiv 2502.06733)"),
    "group-dro": Listed("loss", "DoReMi: topics of large excess loss gain weight (arXiv 2305.10429)"),
    "odm": Listed("sampling", "online data mixing: a bandit whose reward is the loss (arXiv 2312.02406)"),
    "ado": Listed("sampling", "adaptive data optimization: power laws tell what still falls (arXiv 2410.11820)"),
    "shearing": Listed("sampling", "Sheared LLaMA: topics far above a target loss gain share (arXiv 2310.06694)"),
    "stratified": Listed("sampling", "control: every topic has the same share"),
    "temperature": Listed("sampling", "control: shares proportional to size^(1/T)"),
    "shuffled-topics": Listed("loss", "control: another policy's weights (--of) on the wrong topics"),
    "random-weights": Listed("loss", "control: random weights between the bounds, new ones each interval"),
    "frozen": Listed("loss", "control: the weights of another run's table"),
}
