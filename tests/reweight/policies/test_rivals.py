"""The rivals' formulas against plain Python, the controls against their definitions."""

import math
from dataclasses import replace

import pytest
import torch

from tests.reweight.policies.test_all import TOPICS, make
from tests.reweight.policies.test_toremi_paper import stats
from toremi_cli.reweight import PolicyConfig, PolicyData, make_policy, weight_course
from toremi_cli.reweight.policies.ado import fit_power_laws
from toremi_cli.reweight.policies.linupper import linupper

NATURAL = [0.1, 0.2, 0.3, 0.4]


def softmax(values):
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def test_group_dro_by_hand():
    policy = make("group-dro")
    weights = policy.update(stats([2.5, 1.0, 4.0, None])).tolist()
    # excess over the reference (2, 2, 3, 3), clipped at 0: .5, 0, 1; the topic never seen keeps its share
    moved = [0.6 * p for p in softmax([math.log(p) + e for p, e in zip(NATURAL, [0.5, 0.0, 1.0], strict=False)])]
    first = [0.999 * p + 0.001 / 4 for p in [*moved, 0.4]]
    assert weights == pytest.approx([p / n for p, n in zip(first, NATURAL, strict=True)])
    policy.update(stats([None, 3.0, 3.0, 3.0]))
    moved = softmax([math.log(p) + e for p, e in zip(first, [0.5, 1.0, 0.0, 0.0], strict=True)])
    second = [0.999 * p + 0.001 / 4 for p in moved]
    assert policy.shares.tolist() == pytest.approx(second)


def test_group_dro_neither_feeds_nor_starves_what_it_has_not_seen():
    policy = make_policy(PolicyConfig(name="group-dro", smoothing=0), ["a", "b", "rare"], PolicyData(sizes=[5, 4, 1]))
    for losses in ([7.0, 6.0, None], [6.0, 5.5, None]):
        policy.update(stats(losses))
        assert policy.shares[2].item() == pytest.approx(0.1)
    # an excess of 0, or of log V as in the code, would have left it 1e-6 or 0.9 of all after two intervals
    policy.update(stats([5.0, 5.0, 6.0]))
    assert policy.shares[2].item() == pytest.approx(0.1 * math.e / (0.9 + 0.1 * math.e))


def test_group_dro_without_a_reference_follows_the_loss():
    policy = make_policy(PolicyConfig(name="group-dro", smoothing=0, eta=0.5), ["a", "b"])
    policy.update(stats([2.0, 4.0]))
    assert policy.shares.tolist() == pytest.approx(softmax([1.0, 2.0]))
    assert policy.weights.tolist() == pytest.approx([2 * p for p in softmax([1.0, 2.0])])


def test_shearing_by_hand():
    policy = make("shearing")
    policy.update(stats([2.5, 1.0, 4.0, None]))
    moved = softmax([math.log(p) + d for p, d in zip(NATURAL, [0.5, -1.0, 1.0, 0.0], strict=True)])
    assert policy.shares.tolist() == pytest.approx([(1 - 1e-4) * p + 1e-4 / 4 for p in moved])


def test_odm_by_hand():
    policy = make_policy(PolicyConfig(name="odm"), ["a", "b"])
    shares, reward, before = [0.5, 0.5], [0.0, 0.0], 0.5
    for t, losses in enumerate([[2.0, 4.0], [2.0, None], [1.0, 3.0], [1.0, 3.0], [1.0, 3.0]], start=1):
        now = min(0.5, math.sqrt(math.log(2) / (2 * t)))
        for k, loss in enumerate(losses):
            if loss is not None:
                reward[k] = 0.9 * reward[k] + 0.1 * loss / shares[k]
        shares = [(1 - 2 * now) * p + now for p in softmax([before * r for r in reward])]
        before = now
        policy.update(stats(losses))
        assert policy.shares.tolist() == pytest.approx(shares)
    assert shares[1] > shares[0]


def test_odm_starts_uniform_and_rewards_by_the_shares_drawn_by():
    policy = make("odm")
    assert (policy.weights * torch.tensor(NATURAL)).tolist() == pytest.approx([0.25] * 4)
    drawn = torch.tensor([1.0, 1.0, 1.0, 0.25])  # a cap held the last one at a quarter of its natural rate
    policy.update(replace(stats([2.0] * 4), drawn_weights=drawn))
    assert policy.reward.tolist() == pytest.approx(
        [0.2 / (n * d / 0.7) for n, d in zip(NATURAL, drawn.tolist(), strict=True)]
    )


def test_ado_credits_the_shares_drawn_by():
    policy = make("ado")
    policy.update(replace(stats([2.0] * 4), drawn_weights=torch.tensor([4.0, 1.0, 1.0, 0.25])))
    drawn = [0.4 / 1.0, 0.2 / 1.0, 0.3 / 1.0, 0.1 / 1.0]
    assert policy.history.tolist() == pytest.approx([0.9 * n + 0.1 * d for n, d in zip(NATURAL, drawn, strict=True)])


def test_ado_prefers_what_still_falls():
    policy = make_policy(PolicyConfig(name="ado", burn_in_steps=100), ["falls", "stands"])
    for step in range(25, 1025, 25):
        policy.update(stats([1.5 + 20 * step**-0.4, 4.0], step=step))
    # flat: no speed, so no more than the floor, mixed with the mean of all shares so far
    assert policy.weights[0] > 1.5 > 0.6 > policy.weights[1] > 0


def test_power_laws_are_found():
    n = torch.arange(1.0, 60.0, dtype=torch.float64) * 50
    loss = torch.stack([2 + 30 * n**-0.5, 0 + 8 * n**-0.1, torch.full_like(n, 3.0)], dim=1)
    loss[::3, 0] = torch.nan
    exponent, reducible = fit_power_laws(n, loss)
    assert exponent[:2].tolist() == pytest.approx([0.5, 0.1], abs=0.011)
    assert reducible[0].item() == pytest.approx(30 * float(n[-1]) ** -0.5, rel=0.05)
    assert reducible[2].item() == pytest.approx(0, abs=1e-6)


def test_a_rising_loss_has_nothing_left_to_fall():
    n = torch.arange(1.0, 20.0, dtype=torch.float64) * 50
    rising = torch.stack([6 - 10 * n**-0.3, 1 + n / 1000], dim=1)
    _, reducible = fit_power_laws(n, rising)
    assert reducible.tolist() == [0.0, 0.0]
    policy = make_policy(PolicyConfig(name="ado", burn_in_steps=0), ["falls", "rises"])
    for step, loss in enumerate(rising[:, 1].tolist(), start=1):
        policy.update(stats([2 + 8 * step**-0.5, loss], step))
    assert float(policy.shares.min()) >= 0.9 * 0.01


def test_ado_thins_its_points_evenly():
    policy = make_policy(PolicyConfig(name="ado", burn_in_steps=0), ["a"])
    for step in range(1, 131):
        policy.update(stats([1 + step**-0.5], step))
    # the first point stays, every other one goes at the 129th, and what comes after is kept
    assert [step for step, _ in policy.points] == [*range(1, 130, 2), 130]


def test_losses_are_not_rounded_on_the_way():
    policy = make("ado")
    losses = torch.tensor([[2.1 + 3.3 * n**-0.3, 2.0, 2.0, 2.0] for n in range(1, 6)], dtype=torch.float64)
    for step, loss in enumerate(losses, start=1):
        policy.update(stats(loss.tolist(), step))
    expected = fit_power_laws(torch.arange(1, 6).double(), losses)
    assert [x.tolist() for x in policy._fit()] == [x.tolist() for x in expected]
    targets = [2.1, 2.2, 3.3, 3.4]
    assert (
        make_policy(PolicyConfig(name="group-dro"), TOPICS, PolicyData(reference_loss=targets)).reference.tolist()
        == targets
    )


def test_linupper_by_hand():
    weights = linupper(torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=torch.float64)).tolist()
    # h: -1, -.5, 0, 1; f: 0, .5, 1, 1
    assert weights == pytest.approx([4 * p for p in softmax([0.0, 0.5 / 0.4, 1 / 0.4, 1 / 0.4])])
    assert linupper(torch.full((3,), 2.0)).tolist() == pytest.approx([1.0, 1.0, 1.0])
    policy = make_policy(PolicyConfig(name="linupper", burn_in_steps=10), ["a"])
    losses = torch.tensor([1.0, 5.0])
    assert policy.sample_factors(losses, 9).tolist() == [1.0, 1.0]
    assert policy.sample_factors(losses, 10).sum().item() == pytest.approx(2.0)
    assert policy.sample_level


def test_stratified_and_temperature():
    stratified = make("stratified").weights * torch.tensor(NATURAL)
    assert stratified.tolist() == pytest.approx([0.25] * 4)
    tempered = [n**0.5 for n in NATURAL]
    found = make("temperature", temperature=2.0).weights * torch.tensor(NATURAL)
    assert found.tolist() == pytest.approx([t / sum(tempered) for t in tempered])
    assert make("temperature", temperature=1.0).weights.tolist() == pytest.approx([1.0] * 4)
    empty = make_policy(PolicyConfig(name="stratified"), ["a", "b", "c"], PolicyData(sizes=[1, 0, 3]))
    assert empty.weights.tolist() == pytest.approx([2.0, 1.0, 2 / 3])


def test_shuffled_topics_permute_without_a_fixed_point():
    shuffled, straight = make("shuffled-topics", of="toremi-2"), make("toremi-2")
    for policy in (shuffled, straight):
        policy.update(stats([2.0, 4.0, 5.0, 7.0]), 2)
    assert sorted(shuffled.weights.tolist()) == sorted(straight.weights.tolist())
    assert not bool((shuffled.source == torch.arange(4)).any())
    assert shuffled.weights.tolist() == straight.weights[shuffled.source].tolist()
    assert shuffled.stage_of(2) == 2
    assert make("shuffled-topics", of="toremi-1").stage_of(2) == 1
    with pytest.raises(ValueError, match="of shuffled-topics: expected one of uniform"):
        make("shuffled-topics", of="shuffled-topics")


def test_random_weights_stay_in_bounds_and_follow_the_seed():
    one, same, other = (make("random-weights", seed=s) for s in (1, 1, 2))
    courses = [[p.update(stats([2.0] * 4)).tolist() for _ in range(30)] for p in (one, same, other)]
    assert courses[0] == courses[1] != courses[2]
    values = [w for course in courses[0] for w in course]
    assert 0.1 <= min(values) < 0.5 < 2 < max(values) <= 5


def test_frozen_replays_a_table():
    policy = make("frozen")
    assert policy.weights.tolist() == [1, 2, 3, 4]  # the row of step 0
    assert policy.update(stats([2.0] * 4, step=49)).tolist() == [1, 2, 3, 4]
    assert policy.update(stats([2.0] * 4, step=50)).tolist() == [1.5, 2.5, 3.5, 4.5]
    assert policy.update(stats([2.0] * 4, step=10**6)).tolist() == [3, 4, 5, 6]
    later = PolicyData(course=weight_course([(50, t, 2.0) for t in TOPICS], TOPICS))
    assert make_policy(PolicyConfig(name="frozen"), TOPICS, later).weights.tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="'b' at step 5"):
        weight_course([(5, "a", 1.0)], ["a", "b"])
