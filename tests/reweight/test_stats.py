import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toremi_cli.reweight import PolicyConfig, TopicStatistics, normalizer, sample_weights, weight_health


def f(*values):
    return torch.tensor(values, dtype=torch.float64)


def i(*values):
    return torch.tensor(values, dtype=torch.int64)


# Four samples: {0, 1}, {1}, none, {2}
PAIR_SAMPLE, PAIR_TOPIC, ONES = i(0, 0, 1, 3), i(0, 1, 1, 2), f(1, 1, 1, 1)


def test_means_over_samples_that_carry_the_topic():
    statistics = TopicStatistics(4)
    statistics.add(f(2, 4, 9, 5), f(1, 1, 1, 1), PAIR_SAMPLE, PAIR_TOPIC, ONES)
    stats = statistics.read(7)
    assert stats.step == 7
    assert stats.loss[:3].tolist() == [2.0, 3.0, 5.0]
    assert stats.loss[3].isnan()
    assert stats.num_samples.tolist() == [1, 2, 1, 0]
    assert stats.num_samples.dtype == torch.int64
    assert stats.seen.tolist() == [True, True, True, False]
    assert stats.share.tolist() == [0.5, 1.5, 1.0, 0.0]
    assert stats.num_unlabelled == 1.0
    statistics.reset()
    assert not statistics.read(8).seen.any()


def test_soft_topics_are_weighted_by_probability():
    statistics = TopicStatistics(2)
    statistics.add(f(2, 4), f(1, 1), i(0, 0, 1, 1), i(0, 1, 0, 1), f(0.25, 0.75, 0.5, 0.5))
    stats = statistics.read(0)
    assert stats.loss.tolist() == pytest.approx([(0.5 + 2) / 0.75, (1.5 + 2) / 1.25])
    assert stats.num_samples.tolist() == [2, 2]


def test_a_cut_sample_counts_like_a_whole_one():
    whole, cut = TopicStatistics(1), TopicStatistics(1)
    one = f(1)
    # 10 tokens with loss sum 30, and 4 tokens with loss sum 8
    whole.add(f(3.0, 2.0), f(1, 1), i(0, 1), i(0, 0), f(1, 1), sample_tokens=f(10, 4), sample_bytes=f(40, 10))
    sizes = {"sample_tokens": f(3, 4), "sample_bytes": f(12, 10)}
    cut.add(f(0.9, 2.0), f(0.3, 1), i(0, 1), i(0, 0), f(1, 1), **sizes, sample_begins=f(1, 1))
    cut.add(f(2.1), f(0.7), i(0), i(0), one, sample_tokens=f(7), sample_bytes=f(28), sample_begins=f(0))
    a, b = whole.read(1), cut.read(1)
    assert a.loss.item() == pytest.approx(2.5)
    assert b.loss.item() == pytest.approx(2.5)
    assert a.loss_per_byte.item() == pytest.approx(38 / 50)
    assert b.loss_per_byte.item() == pytest.approx(38 / 50)
    assert a.num_tokens.item() == b.num_tokens.item() == 14
    assert a.num_samples.item() == b.num_samples.item() == 2
    assert b.share.item() == pytest.approx(2)


def test_a_topic_seen_by_the_end_of_a_sample_alone_was_seen():
    statistics = TopicStatistics(2)
    statistics.add(f(0.7, 3), f(0.2, 1), i(0, 1), i(0, 1), f(0.5, 0.5), sample_begins=f(0, 1))
    assert statistics.read(4).num_samples.tolist() == [1, 1]


def test_sensitivity_is_a_mean_too():
    statistics = TopicStatistics(2)
    statistics.add(f(2, 4), f(1, 0.5), i(0, 1), i(0, 0), f(1, 1), sample_sensitivity=f(0.9, 0.3))
    assert statistics.read(0).sensitivity[0].item() == pytest.approx((0.9 + 0.15) / 1.5)
    unmeasured = TopicStatistics(2)
    unmeasured.add(f(2, 4), f(1, 0.5), i(0, 1), i(0, 0), f(1, 1))
    assert unmeasured.read(0).sensitivity is None


def test_a_bad_loss_names_its_topic_and_step():
    statistics = TopicStatistics(3, topics=["law", "sport", "lists"])
    statistics.add(f(2, float("nan"), 1, 1), f(1, 1, 1, 1), i(0, 1, 3), i(0, 1, 2), f(1, 1, 1))
    with pytest.raises(ValueError, match=r"step 12.*'sport'.*nan"):
        statistics.read(12)


def test_segment_without_predicted_tokens_is_not_seen():
    statistics = TopicStatistics(1)
    statistics.add(f(0), f(0), i(0), i(0), f(1), sample_tokens=f(0), sample_bytes=f(0))
    stats = statistics.read(0)
    assert stats.num_samples.tolist() == [0]
    assert stats.loss.isnan().all()


def test_ranks_add_up():
    ranks = [TopicStatistics(3) for _ in range(2)]
    ranks[0].add(f(2, 4), f(1, 1), i(0, 1), i(0, 1), f(1, 1))
    ranks[1].add(f(6), f(1), i(0), i(1), f(1))
    ranks[0].buffer += ranks[1].buffer
    assert ranks[0].read(0).loss[:2].tolist() == [2.0, 5.0]


def test_sample_weight_is_the_mean_of_its_topics():
    weights = sample_weights(f(0.5, 2.0, 3.0), PAIR_SAMPLE, PAIR_TOPIC, ONES, 4)
    assert weights.tolist() == [1.25, 2.0, 1.0, 3.0]
    soft = sample_weights(f(0.5, 2.0, 3.0), i(0, 0), i(0, 2), f(0.8, 0.2), 1)
    assert soft.tolist() == pytest.approx([1.0])
    assert sample_weights(f(0.5, 2.0), i(0), i(0), f(0.0), 1).tolist() == [1.0]


def test_works_in_float32_on_the_training_side():
    weights = sample_weights(f(0.5, 2.0, 3.0).float(), PAIR_SAMPLE, PAIR_TOPIC, ONES, 4)
    assert weights.dtype == torch.float32
    assert weights.tolist() == [1.25, 2.0, 1.0, 3.0]


@given(
    st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=1, max_size=12),
    st.lists(st.floats(0.1, 5.0), min_size=5, max_size=5),
    st.lists(st.integers(1, 300), min_size=12, max_size=12),
)
def test_normalizer_makes_the_mean_weight_1(samples, weights, lengths):
    pairs = [(s, t) for s, topics in enumerate(samples) for t in sorted(topics)]
    sample, topic = i(*[s for s, _ in pairs]), i(*[t for _, t in pairs])
    statistics = TopicStatistics(5)
    size = len(samples)
    ones, tokens = torch.ones(size), f(*lengths[:size])
    statistics.add(ones, ones, sample, topic, torch.ones(len(pairs)), sample_tokens=tokens)
    by_sample = sample_weights(f(*weights), sample, topic, torch.ones(len(pairs)), size)
    stats = statistics.read(0)
    assert normalizer(f(*weights), stats) * by_sample.mean().item() == pytest.approx(1.0)
    by_token = (by_sample * tokens).sum() / tokens.sum()
    assert normalizer(f(*weights), stats, "token") * by_token.item() == pytest.approx(1.0)
    assert weight_health(f(*weights), PolicyConfig(), stats, average="token")["weight_mean"] == pytest.approx(by_token)
