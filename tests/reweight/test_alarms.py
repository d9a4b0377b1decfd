import pytest
import torch

from toremi_cli.reweight import IntervalStats, PolicyConfig, alarms, held_down, weight_health


def test_equal_weights_are_healthy():
    config = PolicyConfig()
    health = weight_health(torch.ones(5).double(), config)
    ones = ("weight_entropy", "weight_effective_topics", "weight_mean", "mixture_effective_topics")
    assert health == pytest.approx({"weight_at_bound": 0, **dict.fromkeys(ones, 1)})
    assert alarms(health, config, list("abcde"), [0] * 5) == []


def test_alarms_say_what_is_wrong():
    config = PolicyConfig(name="toremi-2")
    weights = torch.tensor([5.0, 5.0, 0.1, 1.0], dtype=torch.float64)
    share = torch.tensor([1.0, 1.0, 1.0, 0.0]).double()
    stats = IntervalStats(1, weights, torch.ones(4).long(), share=share, num_unlabelled=1.0)
    health = weight_health(weights, config, stats)
    assert health["weight_at_bound"] == 0.75
    assert health["weight_mean"] == pytest.approx((5 + 5 + 0.1 + 1) / 4)
    assert health["weight_effective_topics"] == pytest.approx(11.1**2 / 51.01 / 4)
    found = alarms(health, config, list("abcd"), [0, 0, 10, 3])
    assert len(found) == 3
    assert "75%" in found[0]
    assert "normalize=true" in found[1]
    assert "topic 'c' has not been seen for 10 intervals" in found[2]


def test_no_advice_that_the_policy_would_refuse():
    """`toremi` knows no alpha, and its bounds are those of equal shares: weights beyond them are as they should be."""
    weights, natural = torch.tensor([5.0, 0.0, 0.0, 0.0], dtype=torch.float64), torch.full((4,), 0.25).double()
    found = {
        name: alarms(weight_health(weights, config, natural=natural), config, list("abcd"), [0] * 4)
        for name in ("toremi", "toremi-2")
        for config in [PolicyConfig(name=name, normalize=True)]
    }
    assert [text.partition(":")[0] for text in found["toremi"]] == [
        "the weights have drawn training together on few topics"
    ]
    assert "alpha" not in found["toremi"][0]
    assert all("a smaller alpha" in text for text in found["toremi-2"]) and len(found["toremi-2"]) == 2


def test_topics_that_are_not_seen_are_told_of_once_and_together():
    fine = weight_health(torch.ones(4).double(), PolicyConfig())
    (found,) = alarms(fine, PolicyConfig(), list("abcd"), [10, 0, 10, 2])
    assert "2 topics have not been seen for 10 intervals; their weights stand still: 'a', 'c'" in found
    assert alarms(fine, PolicyConfig(), list("abcd"), [11, 0, 11, 10]) == [], "it has been said"


def test_an_alarm_when_training_draws_together_on_few_topics():
    natural = torch.full((8,), 1 / 8).double()
    weights = torch.tensor([4.9, 4.9, *[0.11] * 6], dtype=torch.float64)
    health = weight_health(weights, PolicyConfig(), natural=natural)
    assert health["mixture_effective_topics"] == pytest.approx(0.34, abs=0.02)
    (found,) = alarms(health, PolicyConfig(normalize=True), list("abcdefgh"), [0] * 8)
    assert "few topics: as spread as 34%" in found
    evened = weight_health(1 / (10 * natural.cumsum(0)), PolicyConfig(), natural=natural.cumsum(0) / 4.5)
    assert evened["mixture_effective_topics"] > 1  # stratifying spreads, however uneven its weights


def test_topics_that_weigh_less_than_half_are_named_the_largest_first():
    natural = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    weights = torch.tensor([0.2, 0.49, 0.5, 3.0], dtype=torch.float64)
    found = held_down(weights, natural, ["a", "b", "c", "d"])
    assert found == "2 of 4 topics, 30% of the text, weigh less than half: b, a"
    assert held_down(torch.ones(4), natural, ["a", "b", "c", "d"]) == ""
    many = held_down(torch.zeros(9), torch.ones(9), [f"t{k}" for k in range(9)])
    assert many.endswith("9 of 9 topics, 100% of the text, weigh less than half: t0, t1, t2, t3, t4, …")
