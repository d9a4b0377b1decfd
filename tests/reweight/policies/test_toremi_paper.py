import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reweight.reference import GOLDEN, trajectory
from toremi_cli.reweight import IntervalStats, PolicyConfig, make_policy

NAN = float("nan")


def stats(losses, step=100, counts=None):
    """An interval's statistics; a loss of None is a topic that was not seen."""
    loss = torch.tensor([NAN if x is None else x for x in losses], dtype=torch.float64)
    counts = counts or [0 if x is None else 3 for x in losses]
    return IntervalStats(step=step, loss=loss, num_samples=torch.tensor(counts))


def run(policy, *intervals, **options):
    """Weights after the last of `intervals`, each (stage, losses)."""
    made = make_policy(PolicyConfig(name=policy, **options), [f"t{i}" for i in range(len(intervals[0][1]))])
    for stage, losses in intervals:
        made.update(stats(losses), stage)
    return made.weights.tolist()


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        # Lbar 4: gaps .5, 0, -.5
        ([(1, [6.0, 4.0, 2.0])], [1.5, 1.0, 1.0]),
        ([(1, [6.0, 4.0, 2.0])] * 2, [2.25, 1.0, 1.0]),
        ([(1, [6.0, 4.0, 2.0])] * 4, [5.0, 1.0, 1.0]),
        ([(2, [6.0, 4.0, 2.0])], [0.5, 1.0, 1.5]),
        ([(2, [6.0, 4.0, 2.0])] * 4, [0.1, 1.0, 5.0]),
        ([(1, [6.0, 4.0, 2.0]), (2, [6.0, 4.0, 2.0])], [0.75, 1.0, 1.5]),
        # an unseen topic keeps its weight and doesn't enter the mean: Lbar 4 of the other two
        ([(1, [6.0, 4.0, 2.0]), (2, [None, 6.0, 2.0])], [1.5, 0.5, 1.5]),
        ([(1, [None, None, None])], [1.0, 1.0, 1.0]),
        ([(2, [3.0, 3.0, 3.0])], [1.0, 1.0, 1.0]),
        ([(2, [0.0, 0.0, 0.0])], [1.0, 1.0, 1.0]),
    ],
)
def test_multiplicative_by_hand(intervals, expected):
    assert run("toremi-2", *intervals) == expected


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(1, [4.5, 4.0, 3.5])] * 2, [2.0, 1.0, 1.0]),
        # back at or below the mean in stage 1: the weight is 1 again at once
        ([(1, [4.5, 4.0, 3.5])] * 2 + [(1, [4.0, 4.0, 4.0])], [1.0, 1.0, 1.0]),
        ([(2, [4.5, 4.0, 3.5])], [0.5, 1.0, 1.5]),
        ([(2, [4.5, 4.0, 3.5])] * 20, [0.1, 1.0, 5.0]),
        ([(1, [4.5, 4.0, 3.5]), (1, [None, 5.0, 3.0])], [1.5, 2.0, 1.0]),
    ],
)
def test_additive_by_hand(intervals, expected):
    assert run("toremi-2", *intervals, rule="additive") == expected


def test_constants_are_options():
    assert run("toremi-2", *[(1, [6.0, 4.0, 2.0])], alpha=0.5) == [1.25, 1.0, 1.0]
    assert run("toremi-2", *[(1, [6.0, 2.0])] * 3, w_max=2.0) == [2.0, 1.0]
    assert run("toremi-2", *[(2, [6.0, 2.0])] * 3, w_min=0.5, w_max=1.0) == [0.5, 1.0]


def test_stage_2_begins_with_the_weights_of_stage_1():
    emphasized = [(1, [6.0, 4.0, 2.0])] * 3
    assert run("toremi-2", *emphasized, (2, [4.0, 4.0, 4.0])) == [3.375, 1.0, 1.0]


def test_toremi_1_stays_in_stage_1():
    losses = [6.0, 4.0, 2.0]
    assert run("toremi-1", (2, losses), (2, losses)) == run("toremi-2", (1, losses), (1, losses))


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_a_loss_that_is_no_number_names_topic_and_step(bad):
    policy = make_policy(PolicyConfig(name="toremi-2"), ["law", "sport"])
    with pytest.raises(ValueError, match=r"step 300.*'sport'.*(nan|inf)"):
        policy.update(stats([2.0, bad], step=300, counts=[1, 1]))
    assert policy.weights.tolist() == [1.0, 1.0]


def test_loss_by_byte():
    policy = make_policy(PolicyConfig(name="toremi-2", loss_unit="byte"), ["a", "b"])
    with pytest.raises(ValueError, match="bytes"):
        policy.update(stats([2.0, 6.0]))
    both = stats([2.0, 6.0])
    per_byte = torch.tensor([1.5, 0.5], dtype=torch.float64)
    policy.update(IntervalStats(both.step, both.loss, both.num_samples, loss_per_byte=per_byte))
    assert policy.weights.tolist() == [1.5, 1.0]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("toremi-?-*.json")), ids=lambda p: p.stem)
def test_golden_trajectory(path):
    case = json.loads(path.read_text())
    topics = sorted({t for row in case["losses"] for t in row["loss"]})
    policy = make_policy(PolicyConfig(name=case["policy"], **case["options"]), topics)
    for row, expected in zip(case["losses"], case["course"], strict=True):
        stage = 2 if row["step"] >= case["switch_step"] else 1
        policy.update(stats([row["loss"].get(t) for t in topics], row["step"]), stage)
        assert policy.stage_of(stage) == expected["stage"]
        assert policy.weights.tolist() == pytest.approx([expected["weights"][t] for t in topics], rel=1e-13)


LOSS = st.one_of(st.none(), st.floats(1e-3, 20.0))
COURSE = st.lists(st.lists(LOSS, min_size=4, max_size=4), min_size=1, max_size=8)
POLICY = st.sampled_from(["toremi-1", "toremi-2"])
RULE = st.sampled_from(["multiplicative", "additive"])


@given(COURSE, POLICY, RULE, st.floats(0, 10), st.floats(0, 1), st.floats(1, 10))
def test_bounds(course, policy, rule, alpha, w_min, w_max):
    intervals = [(1 + i % 2, losses) for i, losses in enumerate(course)]
    weights = run(policy, *intervals, rule=rule, alpha=alpha, w_min=w_min, w_max=w_max)
    assert all(w_min <= w <= w_max for w in weights)


@given(COURSE, POLICY, RULE, st.permutations(range(4)))
def test_order_of_topics_does_not_matter(course, policy, rule, order):
    intervals = [(1 + i % 2, losses) for i, losses in enumerate(course)]
    permuted = [(stage, [losses[k] for k in order]) for stage, losses in intervals]
    weights = run(policy, *intervals, rule=rule)
    assert run(policy, *permuted, rule=rule) == [weights[k] for k in order]


@given(COURSE, POLICY, RULE)
def test_absent_topics_are_as_if_they_did_not_exist(course, policy, rule):
    without = [(2, losses[:3]) for losses in course]
    absent = [(2, [*losses[:3], None]) for losses in course]
    assert run(policy, *absent, rule=rule) == [*run(policy, *without, rule=rule), 1.0]


@given(COURSE, POLICY, RULE, st.one_of(st.none(), st.integers(0, 8)))
def test_equals_the_plain_computation(course, policy, rule, switch):
    topics = ["t0", "t1", "t2", "t3"]
    rows = [
        (i, {t: x for t, x in zip(topics, losses, strict=True) if x is not None}) for i, losses in enumerate(course)
    ]
    options = {"rule": rule, "alpha": 0.7, "w_min": 0.2, "w_max": 3.0}
    expected = trajectory(policy, rows, switch, **options)[-1]["weights"]
    intervals = [(2 if switch is not None and i >= switch else 1, losses) for i, losses in enumerate(course)]
    for topic, weight in zip(topics, run(policy, *intervals, **options), strict=True):
        assert weight == pytest.approx(expected.get(topic, 1.0), rel=1e-12)


@given(COURSE)
def test_uniform_stays_1(course):
    assert run("uniform", *[(2, losses) for losses in course]) == [1.0] * 4


def test_state_comes_back():
    policy = make_policy(PolicyConfig(name="toremi-2"), ["a", "b", "c"])
    policy.update(stats([6.0, 4.0, 2.5]), 1)
    state = json.loads(json.dumps(policy.state_dict()))
    again = make_policy(PolicyConfig(name="toremi-2"), ["a", "b", "c"])
    again.load_state_dict(state)
    assert torch.equal(policy.update(stats([6.0, 4.1, 2.5]), 2), again.update(stats([6.0, 4.1, 2.5]), 2))
    with pytest.raises(ValueError, match="toremi-1"):
        make_policy(PolicyConfig(name="toremi-1"), ["a", "b", "c"]).load_state_dict(state)
    with pytest.raises(ValueError, match="other topics"):
        make_policy(PolicyConfig(name="toremi-2"), ["a", "b"]).load_state_dict(state)


def test_a_returned_weight_is_a_copy():
    policy = make_policy(PolicyConfig(name="toremi-2"), ["a", "b"])
    policy.update(stats([6.0, 2.0])).zero_()
    assert policy.weights.tolist() == [1.5, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"w_min": 1.5}, "w_min"),
        ({"w_max": 0.5}, "w_max"),
        ({"alpha": -1}, "alpha"),
        ({"alpha": NAN}, "alpha"),
        ({"rule": "divide"}, "multiplicative, additive"),
        ({"loss_unit": "word"}, "token, byte"),
    ],
)
def test_config_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        PolicyConfig(**options)


def test_unknown_policy_and_topic_twice():
    with pytest.raises(ValueError, match=r"'best'; expected one of uniform, toremi-1"):
        make_policy(PolicyConfig(name="best"), ["a"])
    with pytest.raises(ValueError, match="'a' occurs twice"):
        make_policy(PolicyConfig(name="toremi-2"), ["a", "b", "a"])
