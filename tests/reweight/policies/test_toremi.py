"""Our policy on simulated courses: what it must do, not which numbers it gives."""

import json
import math
from dataclasses import replace

import pytest
import torch

from toremi_cli.reweight import IntervalStats, PolicyConfig, PolicyData, TopicStatistics, make_policy
from toremi_cli.reweight.robust import median_of_text

NAMES = ["news", "code", "books", "noise", "easy", "tiny"]
SIZES = [4000, 3000, 1500, 1000, 900, 100]


def losses_at(step, jitter, stream):
    """Power laws of like exponents, but noise, which is flat after a first fall."""
    curves = [
        3.0 + 30 * step**-0.5,
        2.0 + 14 * step**-0.5,
        3.4 + 33 * step**-0.5,
        3.0 + 40 * step**-1.2,
        0.5 + 5 * step**-0.5,
        3.0 + 30 * step**-0.5,
    ]
    return torch.tensor(curves).double() + jitter * torch.randn(6, generator=stream, dtype=torch.float64)


def course(policy, num_intervals=40, switch=20, jitter=0.02, **measured):
    stream = torch.Generator().manual_seed(7)
    counts = torch.tensor(SIZES) // 40
    for i in range(1, num_intervals + 1):
        loss = losses_at(25 * i, jitter, stream)
        policy.update(IntervalStats(25 * i, loss, counts, **measured), 2 if i >= switch else 1)
    return dict(zip(NAMES, policy.log_factor.exp().tolist(), strict=True))


def make(**options):
    return make_policy(PolicyConfig(name="toremi", **options), NAMES, PolicyData(sizes=SIZES))


def test_noise_loses_weight_and_more_of_it_in_stage_2():
    explored = course(make(), switch=99)
    assert 0.5 <= explored["noise"] < 0.7
    committed = course(make())
    assert 0.1 <= committed["noise"] < 0.5
    assert min(committed.values()) == committed["noise"]


def test_levels_do_not_matter():
    factors = course(make(), jitter=0.0)
    assert factors["news"] == pytest.approx(factors["tiny"])
    assert 0.8 < factors["easy"] < 1.6  # its loss is a fifth of the others'


def test_topics_that_learn_alike_are_left_stratified():
    policy = make_policy(
        PolicyConfig(name="toremi", stratify_temperature=math.inf, stratify_floor=0), NAMES, PolicyData(SIZES)
    )
    stream = torch.Generator().manual_seed(3)
    for i in range(1, 31):
        loss = (3 + 30 * (25 * i) ** -0.5) * torch.tensor([1.0, 0.4, 1.2, 0.8, 0.2, 1.0]).double()
        noise = 1 + 0.003 * torch.randn(6, generator=stream, dtype=torch.float64)
        policy.update(IntervalStats(25 * i, loss * noise, torch.tensor(SIZES) // 40), 2)
    shares = policy.weights * policy.natural
    assert shares.tolist() == pytest.approx([1 / 6] * 6, rel=0.3)


def test_what_is_hard_and_moves_nothing_is_noise_at_once():
    hard = torch.tensor([1.0, 1.0, 1.1, 2.0, 0.2, 1.0]).double()  # nats a byte: "noise" is hard, "easy" is easy
    still = torch.tensor([0.8, 0.8, 0.8, 0.6, 0.6, 0.8]).double()  # and neither moves the model
    found = course(make(), num_intervals=4, switch=99, sensitivity=still, loss_per_byte=hard)
    assert found["noise"] == pytest.approx(0.1)
    assert min(value for name, value in found.items() if name != "noise") >= 0.5
    moving = torch.full((6,), 0.8).double()
    assert course(make(), num_intervals=4, switch=99, sensitivity=moving, loss_per_byte=hard)["noise"] >= 0.5
    off = course(make(sensitivity=False), sensitivity=still, loss_per_byte=hard)
    assert off == course(make())


def test_many_noisy_topics_do_not_hide_one_another():
    names = [f"t{k}" for k in range(40)]
    policy = make_policy(PolicyConfig(name="toremi", learning_state=False), names, PolicyData(sizes=[100.0] * 40))
    noisy = torch.arange(40) < 15
    differences = torch.linspace(0.96, 1.04, 40).double().roll(20)  # of clean topics among each other
    by_byte = torch.where(noisy, 3.5, 2.0 * differences)
    sensitivity = torch.where(noisy, 0.66, 0.72 * differences)
    for step in range(10, 90, 10):
        loss, counts = torch.full((40,), 6.0).double(), torch.full((40,), 5)
        policy.update(IntervalStats(step, loss, counts, loss_per_byte=by_byte, sensitivity=sensitivity))
    factors = policy.log_factor.exp()
    assert factors[noisy].max() < 0.12  # by the spread on both sides of the median it would be 0.48
    assert factors[~noisy].min() > 0.5


def sources(counted=True):
    """Factors of 16 sources after 80 steps; the 9 smallest, a fifth of the text, are noise."""
    sizes = [20.0] * 9 + [80.0, 90.0, 100.0, 110.0, 120.0, 130.0, 140.0]
    policy = make_policy(PolicyConfig(name="toremi", learning_state=False), [f"s{k}" for k in range(16)])
    noisy, size = torch.arange(16) < 9, torch.tensor(sizes).double()
    differences = torch.linspace(0.96, 1.04, 16).double()[torch.arange(16) * 7 % 16]  # whichever topic
    by_byte = torch.where(noisy, 3.5, 2.0) * differences
    still = torch.where(noisy, 0.66, 0.72) * differences
    for step in range(10, 90, 10):
        stats = IntervalStats(step, by_byte * 3, (size / 5).long(), loss_per_byte=by_byte, sensitivity=still)
        policy.update(replace(stats, num_bytes=size * 25) if counted else stats)
    factors = policy.log_factor.exp()
    return factors[noisy], factors[~noisy]


def test_noise_in_most_of_the_topics_is_found_where_most_of_the_text_is_none():
    noisy, clean = sources()
    assert noisy.max() < 0.12
    assert clean.min() > 0.5
    assert sources(counted=False)[0].min() > 0.5  # nobody knows how much text each topic is: noise is the median


def test_the_median_is_that_of_the_text():
    values, equal = torch.tensor([3.0, 1.0, 2.0, 7.0]).double(), torch.ones(4).double()
    assert median_of_text(values, equal) == 2.5
    assert median_of_text(values[:3], equal[:3]) == 2.0
    assert median_of_text(values, torch.tensor([1.0, 1.0, 1.0, 97.0])) == pytest.approx(7.0, abs=0.15)
    assert median_of_text(values, torch.tensor([1.0, 97.0, 1.0, 0.0])) == pytest.approx(1.0, abs=0.05)
    # Half of a topic lies below its value: of 20, 40 and 40 those are 10, 40 and 80
    three, tied = torch.tensor([[0.0, 1.0, 2.0], [1.0, 1.0, 2.0]]).double()
    assert median_of_text(three, torch.tensor([20.0, 40.0, 40.0])) == pytest.approx(1.25)
    assert median_of_text(tied, torch.tensor([9.0, 2.0, 9.0])) == median_of_text(tied, torch.tensor([2.0, 9.0, 9.0]))
    assert median_of_text(torch.tensor([4.0, 6.0]).double(), torch.zeros(2)) == 5.0


def test_a_topic_seen_early_is_not_noise_for_what_the_model_was_then():
    names = [f"t{k}" for k in range(8)]
    policy = make_policy(PolicyConfig(name="toremi", learning_state=False), names, PolicyData(sizes=[100.0] * 8))
    wobble = torch.linspace(0.97, 1.03, 8).double()
    for step in range(10, 210, 10):  # all alike: ever easier, and ever more sensitive
        counts = torch.full((8,), 5)
        counts[0] = 5 if step in (10, 200) else 0
        loss = torch.where(counts > 0, 6.0, torch.nan).double()
        by_byte = torch.where(counts > 0, (4 - step / 100) * wobble, torch.nan)
        sensitivity = torch.where(counts > 0, (0.5 + step / 500) * wobble, torch.nan)
        policy.update(IntervalStats(step, loss, counts, loss_per_byte=by_byte, sensitivity=sensitivity))
    assert policy.log_factor[0] == 0


def test_what_is_unlike_most_of_the_text_is_not_noise_for_that():
    """Nine tenths are code: all prose is harder by far, and one kind of it happens to move the model as little."""
    policy = make_policy(PolicyConfig(name="toremi", learning_state=False), [f"s{k}" for k in range(8)])
    by_byte = torch.tensor([1.0, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1, 2.2]).double()
    still = torch.tensor([0.60, 0.70, 0.72, 0.59, 0.74, 0.76, 0.78, 0.80]).double()
    for step in range(10, 210, 10):
        counts, num_bytes = torch.full((8,), 5), torch.tensor([9000.0] + [140.0] * 7).double()
        stats = IntervalStats(step, by_byte * 3, counts, loss_per_byte=by_byte, sensitivity=still, num_bytes=num_bytes)
        policy.update(stats, 2)
    assert policy.log_factor.tolist() == [0.0] * 8


@pytest.mark.parametrize("drift", [-0.02, 0.03])
def test_what_all_topics_move_by_is_no_ones_own(drift):
    """Now easy topics are seen and now hard ones: less the median of those seen, each would be another every time."""
    policy = make_policy(PolicyConfig(name="toremi", learning_state=False), [f"t{k}" for k in range(12)])
    true, stream = torch.linspace(0.0, 0.6, 12).double(), torch.Generator().manual_seed(5)
    for turn in range(40):
        counts = 5 * (torch.rand(12, generator=stream) < 0.5)
        counts[6:] *= turn % 4 > 0
        measured = torch.where(counts > 0, (true + drift * turn).exp(), torch.nan)
        stats = IntervalStats(10 * turn + 10, measured * 3, counts, loss_per_byte=measured, sensitivity=measured)
        policy.update(stats)
    loss, sensitivity = policy.levels
    assert (loss - loss[0]).tolist() == pytest.approx(true.tolist(), abs=0.01)
    assert sensitivity.tolist() == loss.tolist()


def eight_topics(spread=0.1):
    """A policy, and by topic nats a byte and sensitivities that differ a little."""
    policy = make_policy(PolicyConfig(name="toremi"), [f"t{k}" for k in range(8)], PolicyData(sizes=[100.0] * 8))
    return policy, torch.linspace(2 - spread, 2 + spread, 8).double(), torch.linspace(0.75, 0.85, 8).double()


def test_one_lively_sample_does_not_lift_a_verdict():
    """A topic that is held down is drawn rarely, and single samples of it may move the model as much as any."""
    policy, by_byte, still = eight_topics()
    by_byte[0] = 3.5
    for step in range(10, 410, 10):
        counts = torch.full((8,), 20)
        counts[0] = 10 if step <= 100 else 2 * (step % 40 == 0)
        still[0] = 0.95 if step == 360 else 0.6
        policy.update(IntervalStats(step, by_byte * 3, counts, loss_per_byte=by_byte, sensitivity=still), 2)
        assert step <= 100 or policy.log_factor[0].exp() == pytest.approx(0.1), step


def held_down(moving):
    """Factors by step of a hard topic that is condemned within 100 steps, and then moves the model so much."""
    policy, by_byte, still = eight_topics(0.3)
    by_byte[0] = 3.5
    factors = {}
    for step in range(10, 610, 10):
        counts = torch.full((8,), 20)
        counts[0] = 10 if step <= 100 else 2 * (step % 40 == 0)
        still[0] = 0.5 if step <= 100 else moving
        policy.update(IntervalStats(step, by_byte * 3, counts, loss_per_byte=by_byte, sensitivity=still), 2)
        factors[step] = float(policy.log_factor[0].exp())
    assert factors[100] == pytest.approx(0.1)
    return factors


def test_noise_that_is_no_longer_trained_on_stays_condemned():
    """What the model is not trained on surprises it again, and moves it like any other text; it stays as hard."""
    assert max(factor for step, factor in held_down(0.80).items() if step >= 100) == pytest.approx(0.1)


def test_what_moves_the_model_more_than_other_text_is_acquitted_however_hard():
    assert held_down(0.88)[600] > 0.9


def on_trial(slope, moving=(0.5, 0.8, 0.9), jitter=0.0):
    """Factors by step of a hard topic, by how it moves the model until step 100, until 200, and from then on.

    Losses fall as n^-0.15, after 100 samples those of the topic as n^-slope, but they rise while it is held down.
    """
    policy, by_byte, still = eight_topics(0.3)
    factors, samples, forgotten = {}, torch.zeros(8).double(), 0.0
    for step in range(10, 1210, 10):
        factor = float(policy.log_factor[0].exp())
        counts = torch.full((8,), 20)
        counts[0] = 20 if factor > 0.5 else 2
        samples += counts
        forgotten = min(forgotten + 0.01, 0.1) if factor < 0.5 else max(forgotten - 0.05, 0.0)
        loss = by_byte * samples**-0.15
        loss[0] = 3.6 * samples[0].clamp_max(100) ** -0.15 * (samples[0] / 100).clamp_min(1) ** -slope
        loss[0] *= math.exp(forgotten + jitter * math.sin(step / 30))
        still[0] = moving[(step > 100) + (step > 200)]
        wobble = 1 + 0.02 * math.sin(step)
        policy.update(IntervalStats(step, loss * 3 * wobble, counts, loss_per_byte=loss, sensitivity=still), 2)
        factors[step] = float(policy.log_factor[0].exp())
        if step == 300:  # an interrupted run goes on
            state = json.loads(json.dumps(policy.state_dict()))
            policy, *_ = eight_topics()
            policy.load_state_dict(state)
    return factors


def test_who_is_acquitted_has_to_become_easier_once_drawn_again():
    """Noise that is held down comes to move the model more than other text does; its loss stands still all the same."""
    noise = on_trial(0.0)
    assert noise[100] == noise[200] == pytest.approx(0.1)
    assert max(factor for step, factor in noise.items() if step > 200) > 0.9, "never tried"
    assert max(factor for step, factor in noise.items() if step >= 900) < 0.13
    headers = on_trial(0.15)
    assert headers[200] == pytest.approx(0.1)
    assert min(factor for step, factor in headers.items() if step >= 400) > 0.9
    assert on_trial(0.15, jitter=0.3)[1200] > 0.9  # losses that jitter prove nothing
    # Who never was condemned isn't tried: small hard topics stand still by chance.
    assert min(on_trial(0.05, moving=(0.85,) * 3).values()) > 0.5


def test_a_verdict_is_carried_out_while_nothing_of_the_topic_is_drawn():
    policy, by_byte, still = eight_topics()
    by_byte[0], still[0] = 3.0, 0.6
    by_byte[1], still[1] = 2.0, 0.8
    for step in range(10, 110, 10):
        counts = torch.full((8,), 20)
        counts[:2] = 20 * (step == 10)
        loss = torch.where(counts > 0, 6.0, torch.nan).double()
        policy.update(IntervalStats(step, loss, counts, loss_per_byte=by_byte, sensitivity=still), 2)
        if step == 10:
            after_one = policy.log_factor.exp().tolist()
    assert after_one[0] > 0.11 and policy.log_factor[0].exp() == pytest.approx(0.1)
    assert policy.log_factor[1].exp() == pytest.approx(after_one[1])


def test_what_stops_being_hard_comes_back():
    policy, by_byte, still = eight_topics()
    still[0] = 0.6
    for step in range(10, 810, 10):
        counts = torch.full((8,), 20)
        counts[0] = 10 if step <= 100 else 2
        by_byte[0] = 3.5 if step <= 100 else 2.0
        policy.update(IntervalStats(step, by_byte * 3, counts, loss_per_byte=by_byte, sensitivity=still), 2)
        if step == 100:
            assert policy.log_factor[0].exp() == pytest.approx(0.1)
    assert policy.log_factor[0].exp() > 0.9


def test_a_small_noisy_topic_is_not_drawn_often_because_it_is_small():
    hard, still = torch.ones(6).double(), torch.full((6,), 0.8).double()
    hard[5], still[5] = 2.0, 0.6
    policy = make()
    assert policy.weights[5] > 5
    course(policy, num_intervals=6, switch=99, sensitivity=still, loss_per_byte=hard)
    assert policy.weights[5] == pytest.approx(0.1)
    assert float((policy.weights * policy.natural).sum()) == pytest.approx(1)


def test_switches():
    policy = make(learning_state=False, stratify_floor=0)
    course(policy)
    temperature = PolicyConfig().stratify_temperature
    tempered = [s ** (1 / temperature) for s in SIZES]
    expected = [t / sum(tempered) for t in tempered]
    assert (policy.weights * policy.natural).tolist() == pytest.approx(expected)
    policy = make(learning_state=False, stratify=False)
    course(policy)
    assert policy.weights.tolist() == pytest.approx([1.0] * 6)


def test_topics_of_a_kind_share_what_one_alone_gets():
    data = PolicyData(sizes=[300.0, 100.0, 100.0, 100.0], crowding=[1.0, 3.0, 3.0, 3.0])
    alone, *like = shares_of(PolicyConfig(name="toremi", stratify_temperature=1e9, stratify_floor=0), data)
    assert alone == pytest.approx(sum(like), rel=1e-6) and like == pytest.approx([like[0]] * 3)
    for off in ({"spread": False}, {"stratify": False}):
        found = shares_of(PolicyConfig(name="toremi", stratify_temperature=1e9, stratify_floor=0, **off), data)
        assert found == pytest.approx([0.25] * 4 if "spread" in off else [0.5, 1 / 6, 1 / 6, 1 / 6], rel=1e-6)
    with pytest.raises(ValueError, match="at least 1"):
        shares_of(PolicyConfig(name="toremi"), PolicyData(sizes=[1.0] * 4, crowding=[1.0, 0.5, 1.0, 1.0]))


def shares_of(config, data):
    policy = make_policy(config, list("abcd"), data)
    return (policy.weights * policy.natural).tolist()


def test_a_lower_bound_of_1_leaves_the_stratification():
    policy = make(w_min=1.0)
    policy.log_factor[0] = 0.5
    assert policy._weights()[5] > 5 > 2 > policy._weights()[1]


def test_suspicion_takes_the_stratification_away_by_degrees():
    policy = make()
    weights = []
    for factor in (1.0, 0.5, 0.2):
        policy.log_factor[5] = math.log(factor)
        weights.append(float(policy._weights()[5]))
    assert weights[0] > 5 and 0.5 < weights[1] < 2.5 and weights[2] < 0.5


def test_bounds_hold():
    factors = course(make(gain=50.0, w_min=0.2, w_max=1.5), jitter=0.3)
    assert all(0.2 - 1e-9 <= f <= 1.5 + 1e-9 for f in factors.values())
    loss_weights = make(apply="loss")
    course(loss_weights)
    assert bool(((loss_weights.weights >= 0.1) & (loss_weights.weights <= 5)).all())


def test_weights_on_the_loss_keep_the_learning_rate():
    """Bounds take from small topics what stratifying gives them: the others make up for it."""
    data = PolicyData(sizes=[1.0] * 20 + [49.0] * 20)
    policy = make_policy(PolicyConfig(name="toremi", apply="loss"), [f"t{k}" for k in range(40)], data)
    drawn = make_policy(PolicyConfig(name="toremi"), policy.topics, data)
    assert drawn.weights.max() > 5 == policy.weights.max()
    assert (policy.weights * policy.natural).sum() == pytest.approx(1)
    policy.log_factor[-5:] = math.log(0.1)
    weights = policy._weights()
    assert weights[-5:].tolist() == pytest.approx([0.1] * 5, rel=1e-12)
    assert (weights * policy.natural).sum() == pytest.approx(1)
    course(loss_weights := make(apply="loss"))
    assert (loss_weights.weights * loss_weights.natural).sum() == pytest.approx(1)


def test_too_little_to_judge():
    one = make_policy(PolicyConfig(name="toremi"), ["only"])
    for i in range(1, 10):
        one.update(IntervalStats(i, torch.tensor([5.0 / i]).double(), torch.tensor([3])), 2)
    assert one.weights.tolist() == pytest.approx([1.0])
    fresh = make()
    before = fresh.weights.clone()
    for i in (1, 2):
        fresh.update(IntervalStats(i, losses_at(i, 0.1, torch.Generator()), torch.tensor([5] * 6)), 2)
    assert torch.equal(fresh.weights, before)


def test_what_is_learnt_by_heart_loses_weight_and_what_is_merely_easy_does_not():
    """Boilerplate falls fastest in log loss, which alone would let it gain."""
    policy, by_byte, still = eight_topics()
    by_byte[1], still[1] = 1.0, 0.6  # code: half of the others' loss, and three quarters of their gradients
    for step in range(10, 310, 10):
        by_byte[0], still[0] = 2.0 * (step / 10) ** -0.9, 0.8 * (step / 10) ** -0.6
        counts = torch.full((8,), 20)
        policy.update(IntervalStats(step, by_byte * 3, counts, loss_per_byte=by_byte, sensitivity=still), 2)
    assert policy.log_factor[0].exp() == pytest.approx(0.1)
    assert policy.log_factor[1:].exp().min() > 0.9
    unseen = make_policy(PolicyConfig(name="toremi", sensitivity=False), policy.topics, policy.data)
    unseen.load_state_dict(policy.state_dict())
    assert not unseen._learnt().any() and not unseen._noise().any()


def test_without_measured_sensitivity_no_level_counts():
    """As with `--sensitivity none`: a topic that stood still comes back, however hard it is."""
    policies = [make(sensitivity=switch) for switch in (True, False)]
    statistics = TopicStatistics(6)
    topic, ones = torch.arange(6), torch.ones(6)
    for step in range(1, 101):
        effective = torch.full((6,), float(step))
        effective[0] = step if step < 15 else 15.0 if step < 50 else 15 * (step / 50) ** 3
        loss = torch.tensor([5.0, 2.5, 2.6, 2.7, 2.8, 2.9]) * effective**-0.15
        statistics.reset()
        statistics.add(loss, ones, topic, topic, ones, sample_tokens=100 * ones, sample_bytes=400 * ones)
        for policy in policies:
            policy.update(statistics.read(step), 2)
        if step == 49:
            assert policies[1].log_factor[0].exp() < 0.5
    assert torch.equal(policies[0].log_factor, policies[1].log_factor)
    assert policies[0].log_factor[0].exp() > 0.9


def test_large_topics_keep_most_of_their_share():
    data = PolicyData(sizes=[600.0, 200.0, 100.0, 100.0])

    def after(num_intervals, floor):
        policy = make_policy(PolicyConfig(name="toremi", stratify_temperature=1e9, stratify_floor=floor), "abcd", data)
        for step in range(num_intervals):
            policy.update(IntervalStats(step, torch.full((4,), 3.0).double(), torch.full((4,), 20)), 1)
        return (policy.weights * policy.natural).tolist()

    assert after(20, 0.0) == pytest.approx([0.25] * 4, rel=1e-6)
    assert after(7, 0.75) == pytest.approx([0.25] * 4, rel=1e-6)  # not before it is known that they are no noise
    assert after(8, 0.75) == pytest.approx([0.45, 0.55 / 3, 0.55 / 3, 0.55 / 3], rel=1e-6)
    # Making room for the first brings the second to the floor.
    assert after(8, 0.95) == pytest.approx([0.57, 0.19, 0.12, 0.12], rel=1e-6)
    assert after(8, 1.0) == pytest.approx([0.6, 0.2, 0.1, 0.1])
    with pytest.raises(ValueError, match="stratify_floor"):
        PolicyConfig(stratify_floor=1.5)
