import pytest
import torch

from toremi_cli.reweight import TopicStatistics, context_sums, other_tokens, worth


def partners(segment, row_length):
    return other_tokens(segment, row_length, torch.ones_like(segment, dtype=torch.bool))[:, 0].tolist()


def cycles(partner):
    """The sets of indices that following `partner` runs through."""
    left, found = set(range(len(partner))), []
    while left:
        first = index = min(left)
        cycle = set()
        while index not in cycle:
            cycle.add(index)
            index = partner[index]
        assert index == first
        found.append(cycle)
        left -= cycle
    return found


def test_other_tokens_run_through_each_segment_once():
    segment = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 4, 4, 4, 4])
    assert cycles(partners(segment, 8)) == [
        {0, 1, 2, 3}, {4, 5}, {6, 7}, {8}, {9, 10, 11, 12, 13, 14, 15},
    ]  # fmt: skip


def test_other_tokens_are_in_no_order():
    partner = torch.tensor(partners(torch.zeros(512, dtype=torch.int64), 512))
    steps = (partner - torch.arange(512)) % 512
    assert steps.unique().numel() > 250
    assert len(cycles(partner.tolist())) == 1


def test_rows_are_ordered_alike_wherever_they_stand():
    segment = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    alone = partners(segment, 8)
    assert partners(torch.cat((segment, segment + 2)), 8) == [*alone, *(place + 8 for place in alone)]


def test_worth_is_nothing_for_noise_and_for_what_is_known_by_heart():
    loss = torch.tensor([4.0, 5.0, 0.0, 2.0])
    shuffled = torch.tensor([7.0, 4.9, 9.0, 3.0])
    assert worth(loss, shuffled - loss).tolist() == [12.0, 0.0, 0.0, 2.0]


def test_tokens_that_begin_a_word_are_exchanged_for_such():
    segment = torch.tensor([0] * 8 + [1] * 4 + [2] * 4)
    begins = torch.tensor([1, 0, 0, 1, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0], dtype=torch.bool)
    anyone, alike = other_tokens(segment, 8, begins).T.tolist()
    assert anyone == partners(segment, 8)
    assert cycles(alike) == [
        {0, 3, 5}, {1, 2, 4, 6, 7}, {8, 9, 10, 11}, {12, 13, 15}, {14},
    ]  # fmt: skip


def test_context_sums_by_segment():
    losses = torch.tensor([1.0, 2, 3, 4, 5])
    shuffled = torch.tensor([[9.0, 2], [8, 4], [7, 6], [6, 8], [5, 5]])
    begins = torch.tensor([True, False, True, True, False])
    sums = context_sums(losses, shuffled, torch.tensor([0, 0, 0, 1, 2]), 3, begins)
    assert sums.tolist() == [[24, 6, 5], [1 + 3, 4, 0], [2, 1, 0]]


def test_statistics_count_tokens_and_undo_the_sampling():
    f = lambda *values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    statistics = TopicStatistics(2)
    index = torch.tensor([0, 1])
    # 10 tokens of 30 nats and 40 shuffled; 4 of 8 and 20, drawn twice as often as natural: it counts half.
    statistics.add(
        f(3.0, 2.0), f(1, 1), index, torch.tensor([0, 0]), f(1, 0.5),
        sample_tokens=f(10, 4), sample_context=torch.stack((f(40, 20), f(9, 6), f(6, 2))),
    )  # fmt: skip
    stats = statistics.read(1)
    assert stats.token_loss[0].item() == pytest.approx((30 + 4) / 12)
    assert stats.shuffled_loss[0].item() == pytest.approx((40 + 10) / 12)
    assert stats.num_words[0].item() == 7
    assert stats.word_gain[0].item() == pytest.approx((9 + 3) / 7)
    assert stats.token_loss[1].isnan()
    assert stats.word_gain[1].isnan()
    unmeasured = TopicStatistics(1)
    unmeasured.add(f(3.0), f(1), index[:1], index[:1], f(1), sample_tokens=f(10))
    assert unmeasured.read(1).shuffled_loss is None
    assert unmeasured.read(1).word_gain is None
