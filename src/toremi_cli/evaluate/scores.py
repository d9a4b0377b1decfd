"""From summed losses to numbers by domain: loss, perplexity and bits per byte, with their averages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from toremi_cli.evaluate.data import EvalSet
from toremi_cli.schemas import MACRO, MICRO, TOPIC_DOMAIN

METRICS = ("loss", "perplexity", "bits_per_byte")


@dataclass(frozen=True)
class TextScores:
    """Summed losses of one model over an `EvalSet`; arrays of shape (num_texts,)."""

    nats: np.ndarray
    num_tokens: np.ndarray
    num_bytes: np.ndarray


@dataclass(frozen=True)
class DomainScore:
    """One domain's numbers: `loss` in nats a token; perplexity is its exponential."""

    domain: str
    loss: float
    bits_per_byte: float
    num_tokens: int
    num_bytes: int
    num_samples: int
    """Documents."""

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "domain": self.domain,
            **{metric: getattr(self, metric) for metric in METRICS},
            "num_tokens": self.num_tokens,
            "num_bytes": self.num_bytes,
            "num_samples": self.num_samples,
        }


def domain_score(domain: str, scores: TextScores, members: np.ndarray, documents: np.ndarray) -> DomainScore:
    """Token-weighted loss and bits per byte of the texts `members` (indices or a mask)."""
    nats, tokens = float(scores.nats[members].sum()), int(scores.num_tokens[members].sum())
    num_bytes = int(scores.num_bytes[members].sum())
    num_documents = len(np.unique(documents[members]))
    return DomainScore(domain, nats / tokens, nats / math.log(2) / num_bytes, tokens, num_bytes, num_documents)


def score_domains(texts: EvalSet, scores: TextScores) -> list[DomainScore]:
    """Sources, macro (unweighted mean over sources), micro (all tokens alike), then topics."""
    sources, documents = np.array(texts.sources), np.array(texts.documents)
    by_source = [domain_score(name, scores, sources == name, documents) for name in texts.domains]
    micro = domain_score(MICRO, scores, np.arange(len(sources)), documents)
    macro = DomainScore(
        MACRO,
        float(np.mean([s.loss for s in by_source])),
        float(np.mean([s.bits_per_byte for s in by_source])),
        micro.num_tokens,
        micro.num_bytes,
        micro.num_samples,
    )
    members: dict[str, list[int]] = {}
    for index, topics in enumerate(texts.topics):
        for topic in topics:
            members.setdefault(topic, []).append(index)
    by_topic = [
        domain_score(TOPIC_DOMAIN + name, scores, np.array(own), documents) for name, own in sorted(members.items())
    ]
    return [*by_source, macro, micro, *by_topic]


def eval_rows(
    run: str, checkpoint: str, suite: str, scores: Sequence[DomainScore], stderr: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Rows of table `eval`; `stderr` holds the standard errors of bits per byte."""
    return [
        {
            "run": run,
            "checkpoint": checkpoint,
            "suite": suite,
            "domain": score.domain,
            "metric": metric,
            "value": getattr(score, metric),
            "num_tokens": score.num_tokens,
            "num_bytes": score.num_bytes,
            "num_samples": score.num_samples,
            "stderr": stderr.get(score.domain) if metric == "bits_per_byte" else None,
        }
        for score in scores
        for metric in METRICS
    ]


def best_of(values: Mapping[str, float]) -> set[str]:
    """The keys of the lowest value, to the digits that are shown; none where all are alike."""
    shown = {key: float(f"{value:.4g}") for key, value in values.items() if math.isfinite(value)}
    lowest = min(shown.values(), default=math.nan)
    best = {key for key, value in shown.items() if value == lowest}
    return best if 0 < len(best) < len(values) else set()
