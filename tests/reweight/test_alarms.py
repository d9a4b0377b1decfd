import pytest
import torch

from toremi_cli.reweight import IntervalStats, PolicyConfig, alarms, weight_health


def test_equal_weights_are_healthy():
    config = PolicyConfig()
    health = weight_health(torch.ones(5).double(), config)
    assert health == pytest.approx(
        {"weight_entropy": 1, "weight_effective_topics": 1, "weight_at_bound": 0, "weight_mean": 1}
    )
    assert alarms(health, config, list("abcde"), [0] * 5) == []


def test_alarms_say_what_is_wrong():
    config = PolicyConfig()
    weights = torch.tensor([5.0, 5.0, 0.1, 1.0], dtype=torch.float64)
    share = torch.tensor([1.0, 1.0, 1.0, 0.0]).double()
    stats = IntervalStats(1, weights, torch.ones(4).long(), share=share, num_unlabelled=1.0)
    health = weight_health(weights, config, stats)
    assert health["weight_at_bound"] == 0.75
    assert health["weight_mean"] == pytest.approx((5 + 5 + 0.1 + 1) / 4)
    assert health["weight_effective_topics"] == pytest.approx(11.1**2 / 51.01 / 4)
    found = alarms(health, config, list("abcd"), [0, 0, 10, 11])
    assert len(found) == 3
    assert "75%" in found[0]
    assert "--normalize" in found[1]
    assert "'c'" in found[2]
