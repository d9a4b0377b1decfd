"""What a run needs of its samples beside their tokens: topics, strata, how much there is of each.

Arrays with an entry for every sample may be mapped: they are read and written a stretch of samples at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toremi_cli.reweight import Strata, build_strata
from toremi_cli.reweight.strata import New, chunks_of, grouped


@dataclass(frozen=True)
class TopicPairs:
    """Which samples carry which topics: sample i's pairs are `indptr[i]:indptr[i+1]` of `topic` and `prob`."""

    names: list[str]
    indptr: np.ndarray
    """(num_samples + 1,) int64"""
    topic: np.ndarray
    """(num_pairs,) int32, index into `names`"""
    prob: np.ndarray
    """(num_pairs,) float32; 1 for hard topics"""
    crowding: list[float] | None = None
    """For each of `names` how many topics are of its kind, itself included; None where table `topics` doesn't tell."""

    def of(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The pairs of (n,) samples: place in `samples`, int64; topic, int64; probability; all (P,)."""
        begin = self.indptr[samples]
        count = self.indptr[samples.astype(np.int64) + 1] - begin
        place = np.repeat(np.arange(len(samples)), count)
        pair = np.arange(len(place)) + np.repeat(begin - (np.cumsum(count) - count), count)
        return place, self.topic[pair].astype(np.int64), self.prob[pair]


@dataclass(frozen=True)
class SampleIndex:
    """The samples that are trained on, by topic and by stratum."""

    pairs: TopicPairs
    """Of every sample of the cache; topics without a training sample are left out."""
    strata: Strata
    """Of the training samples; `stratum_of` has every sample of the cache."""
    samples: np.ndarray
    """(n,) indices of the training samples, rising."""
    members: np.ndarray
    """(n,) the same, stratum by stratum."""
    stratum_tokens: np.ndarray
    """(num_strata,) float64: predicted tokens."""
    topic_sizes: np.ndarray
    """(2, num_topics) float64: by `topic_sizes`."""


def topic_sizes(pairs: TopicPairs, length: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """(2, num_topics) float64: each topic's samples and their predicted tokens; one of several counts in part for each.

    Args:
        pairs: topics of all samples.
        length: (num_samples,) tokens of each, without its end.
        counted: (num_samples,) bool: those that count; None for all.
    """
    sizes = np.zeros((2, len(pairs.names)))
    for part in chunks_of(len(length)):
        begins = pairs.indptr[part.start : part.stop + 1]
        topic, prob = (x[begins[0] : begins[-1]] for x in (pairs.topic, pairs.prob))
        sample = np.repeat(np.arange(part.stop - part.start), np.diff(begins))
        share = prob / np.bincount(sample, prob, part.stop - part.start)[sample]
        if counted is not None:
            share = np.where(counted[part][sample], share, 0.0)
        sizes[0] += np.bincount(topic, share, len(pairs.names))
        sizes[1] += np.bincount(topic, share * (length[part][sample] + 1.0), len(pairs.names))
    return sizes


def build_index(
    pairs: TopicPairs,
    length: np.ndarray,
    *,
    soft: bool = False,
    counted: np.ndarray | None = None,
    new: Callable[[str], New] = lambda name: np.zeros,
) -> SampleIndex:
    """Index samples whose topics and lengths are known.

    Args:
        pairs: topics of all samples.
        length: (num_samples,) tokens of each, without its end.
        soft: samples are mixtures of topics, such as rows packed from several documents.
        counted: (num_samples,) bool: those that are trained on; None for all.
        new: makes the array of a name.
    """
    strata = build_strata(pairs.indptr, pairs.topic, pairs.prob, soft=soft, counted=counted, new=new("stratum_of"))
    members = grouped(strata.stratum_of, strata.num_samples, counted, new("members"))
    samples, filled = new("samples")(len(members), members.dtype), 0
    tokens = np.zeros(len(strata.num_samples))
    for part in chunks_of(len(length)):
        own = np.arange(part.start, part.stop) if counted is None else part.start + np.flatnonzero(counted[part])
        samples[filled : filled + len(own)] = own
        filled += len(own)
        tokens += np.bincount(strata.stratum_of[own], length[own] + 1.0, len(tokens))
    return SampleIndex(pairs, strata, samples, members, tokens, topic_sizes(pairs, length, counted))
