"""What an interval of training tells about each topic, gathered on the device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def sums_device(device: torch.device) -> torch.device:
    """Where float64 sums are kept: on the device, or on the CPU beside Apple's, which has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


@dataclass(frozen=True)
class IntervalStats:
    """The topics as one interval saw them, over all ranks and micro-batches. All tensors are on the CPU."""

    step: int
    """Optimizer steps done when the interval ended."""
    loss: Tensor
    """(num_topics,) float64: mean loss of the topic's samples in nats a token; NaN where unseen."""
    num_samples: Tensor
    """(num_topics,) int64: samples that carry the topic and begin in the interval; at least 1 where the topic was seen,
    if only by the rest of a sample that began before; 0 = unseen."""
    loss_per_byte: Tensor | None = None
    """(num_topics,) float64: nats of the topic's tokens over their bytes; NaN where unseen."""
    token_loss: Tensor | None = None
    """(num_topics,) float64: mean loss of the topic's tokens, in nats: L of `worth`; NaN where unseen."""
    shuffled_loss: Tensor | None = None
    """(num_topics,) float64: mean loss of the same predictions on other tokens of the same sample, in nats: S of
    `worth`; NaN where unseen; None: not measured."""
    word_gain: Tensor | None = None
    """(num_topics,) float64: mean S - L of the topic's tokens that begin a word, in nats, S being the loss of other
    such tokens; NaN where none was seen; None: not measured."""
    num_words: Tensor | None = None
    """(num_topics,) float64: those tokens, times the probability of the topic."""
    sensitivity: Tensor | None = None
    """(num_topics,) float64: mean gradient sensitivity of the topic's samples; NaN where unseen; None: not measured."""
    holdout_loss: Tensor | None = None
    """(num_topics,) float64: mean loss on held-out samples, for policies that want it; NaN where not measured."""
    num_tokens: Tensor | None = None
    """(num_topics,) float64: predicted tokens, times the probability of the topic."""
    num_bytes: Tensor | None = None
    """(num_topics,) float64: bytes of those tokens, times the probability of the topic."""
    share: Tensor | None = None
    """(num_topics,) float64: samples, each split over its topics so that the split sums to 1."""
    num_unlabelled: float = 0.0
    """Samples without a topic."""
    share_tokens: Tensor | None = None
    """(num_topics,) float64: predicted tokens, split as in `share`."""
    num_unlabelled_tokens: float = 0.0
    """Predicted tokens of samples without a topic."""
    drawn_weights: Tensor | None = None
    """(num_topics,) float64: the weights that adaptive sampling drew the interval by, floor and cap included: rate over
    natural rate; None: the policy's own, or they acted on the loss."""

    @property
    def seen(self) -> Tensor:
        """(num_topics,) bool: topics with at least one sample in the interval."""
        return self.num_samples > 0

    def losses(self, unit: str) -> Tensor:
        """(num_topics,) float64 losses by `unit`, "token" or "byte".

        Raises:
            ValueError: bytes were not counted.
        """
        if unit == "token":
            return self.loss
        if self.loss_per_byte is None:
            raise ValueError("loss unit 'byte' needs the bytes of each sample, and they were not counted")
        return self.loss_per_byte

    def totals(self, weights: Tensor, average: str) -> tuple[float, float]:
        """How much the interval saw, and the same with everything times its weight.

        Args:
            weights: (num_topics,) float64; what has no topic has weight 1.
            average: what is counted, "sample" or "token": what the loss averages over.

        Raises:
            ValueError: the shares were not counted.
        """
        share, unlabelled = self.share, self.num_unlabelled
        if average == "token":
            share, unlabelled = self.share_tokens, self.num_unlabelled_tokens
        if share is None:
            raise ValueError(f"a mean weight by {average} needs the topics' shares, and they were not counted")
        return float(share.sum()) + unlabelled, float((share * weights).sum()) + unlabelled


_LOSS, _MASS, _SHARE, _TOKENS, _NATS, _BYTES, _SENSITIVITY, _TOKEN_SHARE, _BEGINS = range(9)
_SHUFFLED, _WORD_GAIN, _WORDS = range(9, 12)
NUM_COLUMNS = 12


class TopicStatistics:
    """Sums by topic over an interval, in one float64 buffer on the device.

    `buffer`: (num_topics + 1, NUM_COLUMNS); its last row is that of samples without topics. Sum it over ranks once an
    interval (`all_reduce`), then `read` it. It is also all that a checkpoint must keep of an interval under way.

    A *segment* is the part of a sample that stands in one packed sequence. Sums of segments give exactly the mean over
    whole samples, wherever the sequences cut them.
    """

    def __init__(
        self, num_topics: int, device: torch.device | str = "cpu", topics: Sequence[str] | None = None
    ) -> None:
        """`topics` are the names that errors use."""
        self.num_topics = num_topics
        self.topics = topics
        self.buffer = torch.zeros(num_topics + 1, NUM_COLUMNS, dtype=torch.float64, device=device)
        self._has_sensitivity = self._has_context = False

    def add(
        self,
        sample_loss: Tensor,
        sample_mass: Tensor,
        pair_sample: Tensor,
        pair_topic: Tensor,
        pair_prob: Tensor,
        *,
        sample_tokens: Tensor | None = None,
        sample_bytes: Tensor | None = None,
        sample_context: Tensor | None = None,
        sample_sensitivity: Tensor | None = None,
        sample_begins: Tensor | None = None,
    ) -> None:
        """Add the S segments of a micro-batch; nothing here waits for the device.

        Args:
            sample_loss: (S,) sum of the segment's token losses over the predicted tokens of the *whole* sample.
            sample_mass: (S,) share of the sample's predicted tokens that this segment has; 1 for a whole sample.
            pair_sample: (P,) int64, index of a segment in 0..S-1.
            pair_topic: (P,) int64, a topic that this segment's sample carries.
            pair_prob: (P,) the topic's probability; 1 for each topic of a hard set. Under adaptive sampling, times the
                sample's natural share over its sampling share, which makes the means those of natural sampling.
            sample_tokens: (S,) predicted tokens of the segment; needed for losses by byte and for shares by token.
            sample_bytes: (S,) bytes of those tokens.
            sample_context: (3, S) `context_sums` of the segments' tokens; None where not measured.
            sample_sensitivity: (S,) mean gradient sensitivity of the segment's tokens; None where not measured.
            sample_begins: (S,) 1 where the segment is the first of its sample, else 0; None: each is a whole sample.
        """
        num_segments = sample_loss.shape[0]
        zeros = self.buffer.new_zeros(num_segments)
        loss, mass = sample_loss.detach().double(), sample_mass.double()
        prob = pair_prob.double()
        tokens = zeros if sample_tokens is None else sample_tokens.double()
        bytes_ = zeros if sample_bytes is None else sample_bytes.double()
        sensitivity = zeros if sample_sensitivity is None else sample_sensitivity.detach().double() * mass
        context = zeros.expand(3, -1) if sample_context is None else sample_context.detach().double()
        self._has_sensitivity |= sample_sensitivity is not None
        self._has_context |= sample_context is not None
        nats = loss * tokens / mass.clamp_min(torch.finfo(torch.float64).tiny)
        total_prob = zeros.index_add(0, pair_sample, prob)
        at_least_tiny = total_prob.clamp_min(torch.finfo(torch.float64).tiny)
        split, token_split = mass / at_least_tiny, tokens / at_least_tiny
        begins = torch.ones_like(mass) if sample_begins is None else sample_begins.double()
        columns = (loss, mass, split, tokens, nats, bytes_, sensitivity, token_split, begins, *context)
        # (S, NUM_COLUMNS); what counts samples must not be scaled by the probability, so it is put in below.
        segments = torch.stack(columns, dim=1)
        pairs = segments[pair_sample] * prob.unsqueeze(1)
        pairs[:, _BEGINS] = begins[pair_sample] * (prob > 0).double()
        self.buffer.index_add_(0, pair_topic, pairs)
        without_topic = (total_prob <= 0).double()
        # 0 * nan would spread a bad loss of a labelled sample to this row, which only counts anyway.
        self.buffer[self.num_topics, _MASS] += (mass * without_topic).sum()
        self.buffer[self.num_topics, _TOKENS] += (tokens * without_topic).sum()

    def read(self, step: int) -> IntervalStats:
        """The interval's means. Waits for the device: once an interval.

        Raises:
            ValueError: a topic's loss is NaN or infinite.
        """
        sums = self.buffer.cpu()
        topics = sums[: self.num_topics]
        mass = topics[:, _MASS]
        seen = mass > 0
        check_finite(topics[:, _LOSS], seen, step, self.topics)
        # (num_topics,): 0 / 0 = NaN stands for unseen
        return IntervalStats(
            step=step,
            loss=topics[:, _LOSS] / mass,
            num_samples=torch.where(seen, topics[:, _BEGINS].clamp_min(1), 0.0).round().long(),
            loss_per_byte=topics[:, _NATS] / topics[:, _BYTES],
            token_loss=topics[:, _NATS] / topics[:, _TOKENS],
            shuffled_loss=topics[:, _SHUFFLED] / topics[:, _TOKENS] if self._has_context else None,
            word_gain=topics[:, _WORD_GAIN] / topics[:, _WORDS] if self._has_context else None,
            num_words=topics[:, _WORDS].clone() if self._has_context else None,
            # Zeros would say that no topic moves the model, and so that the hard ones are noise.
            sensitivity=topics[:, _SENSITIVITY] / mass if self._has_sensitivity else None,
            num_tokens=topics[:, _TOKENS].clone(),
            num_bytes=topics[:, _BYTES].clone(),
            share=topics[:, _SHARE].clone(),
            num_unlabelled=float(sums[self.num_topics, _MASS]),
            share_tokens=topics[:, _TOKEN_SHARE].clone(),
            num_unlabelled_tokens=float(sums[self.num_topics, _TOKENS]),
        )

    def reset(self) -> None:
        """Begin a new interval."""
        self.buffer.zero_()


def check_finite(loss: Tensor, seen: Tensor, step: int, topics: Sequence[str] | None) -> None:
    """Refuse losses that are not numbers.

    Raises:
        ValueError: names the first such topic and the step.
    """
    bad = (seen & ~torch.isfinite(loss)).nonzero().flatten()
    if len(bad):
        index = int(bad[0])
        topic = repr(topics[index]) if topics is not None else f"number {index}"
        raise ValueError(f"step {step}: the loss of topic {topic} is {float(loss[index])}; expected a finite number")
