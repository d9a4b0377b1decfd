"""What holds for every policy."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reweight.policies.test_toremi_paper import stats
from toremi_cli.policy_config import EVERY_POLICY, POLICY_LIST, SHUFFLED, settings_read
from toremi_cli.reweight import POLICIES, MissingNeed, Policy, PolicyConfig, PolicyData, make_policy, weight_course
from toremi_cli.reweight.policies.shuffled_topics import ShuffledTopics
from toremi_cli.reweight.policies.uniform import Uniform

TOPICS = ["a", "b", "c", "d"]
COURSE = weight_course([(s, t, 1 + s / 100 + i) for s in (0, 50, 200) for i, t in enumerate(TOPICS)], TOPICS)
DATA = PolicyData(
    sizes=[100, 200, 300, 400],
    ngram_loss=[3.0, 4.0, math.nan, 5.0],
    unigram_loss=[6.0, 6.0, math.nan, 4.9],
    reference_loss=[2.0, 2.0, 3.0, 3.0],
    course=COURSE,
)
LOSSES = st.lists(st.lists(st.one_of(st.none(), st.floats(0.01, 15)), min_size=4, max_size=4), min_size=1, max_size=8)


def make(name, **options):
    return make_policy(PolicyConfig(name=name, burn_in_steps=0, **options), TOPICS, DATA)


def measured(seen):
    """An interval with all that a run measures."""
    loss, num_bytes = seen.loss, torch.where(seen.seen, 100 + seen.loss.sin(), 0.0)
    return replace(
        seen,
        loss_per_byte=loss / 3,
        sensitivity=1 / (1 + loss),
        num_bytes=num_bytes,
        num_tokens=num_bytes / 3,
        token_loss=loss,
        shuffled_loss=1.5 * loss + loss.sin(),
        word_gain=loss / 3 + loss.sin(),
        num_words=num_bytes / 6,
    )


def run(policy, course, start=0):
    for i, losses in enumerate(course, start=start):
        policy.update(measured(stats(losses, step=25 * (i + 1))), 1 + i // 3)
    return policy.weights


@pytest.mark.parametrize("name", POLICIES)
def test_it_introduces_itself(name):
    assert POLICIES[name].name == name
    assert 10 < len(POLICY_LIST[name].summary) < 80
    assert POLICY_LIST[name].acts_on == POLICIES[name].acts_on
    assert make(name).apply in ("loss", "sampling")
    assert make(name, apply="both").apply == "both"


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=25)
@given(course=LOSSES)
def test_weights_are_finite_and_not_negative(name, course):
    weights = run(make(name), course)
    assert weights.dtype == torch.float64
    assert bool(torch.isfinite(weights).all())
    assert bool((weights >= 0).all())


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=10)
@given(course=LOSSES, split=st.integers(0, 7))
def test_a_saved_state_goes_on_the_same(name, course, split):
    first, second = course[:split], course[split:]
    whole, begun, resumed = make(name), make(name), make(name)
    run(whole, course)
    run(begun, first)
    resumed.load_state_dict(json.loads(json.dumps(begun.state_dict())))
    run(resumed, second, start=len(first))
    assert torch.equal(resumed.weights, whole.weights)
    assert resumed.state_dict() == whole.state_dict()


def course_of_all():
    """Intervals over both stages in which topics come and go, long enough for every policy to act."""
    return [[2.0, 6.0 - i / 3, None if i % 3 else 5.0, 4.0 + i / 9] for i in range(12)]


@pytest.mark.parametrize("name", POLICIES)
def test_all_that_updates_change_is_declared_as_state(name):
    policy = make(name)
    before = copy.deepcopy(vars(policy))
    run(policy, course_of_all())
    frozen = {"config", "data"}
    changed = {key for key in vars(policy).keys() - frozen if not same(getattr(policy, key), before[key])}
    assert changed <= {"weights", *policy.state}, "declare it in `state`"
    assert policy.static or policy.sample_level or changed


def same(one, other):
    if isinstance(one, Policy):
        return one.state_dict() == other.state_dict()
    if isinstance(one, torch.Tensor):
        return torch.equal(torch.nan_to_num(one, nan=-1.0), torch.nan_to_num(other, nan=-1.0))
    return one is other or one == other


class Recorded:
    """Settings that take note of which of them are read."""

    def __init__(self, config):
        self.config, self.read = config, set()

    def __getattr__(self, key):
        self.read.add(key)
        return getattr(self.config, key)


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {SHUFFLED}))
def test_a_policy_reads_the_settings_that_it_declares(name):
    read = set()
    for options in ({}, {"rule": "additive"}, {"apply": "loss"}):
        policy = make(name)
        recorded = Recorded(replace(policy.config, **options))
        policy = POLICIES[name](recorded, TOPICS, DATA)
        run(policy, course_of_all())
        policy.sample_factors(torch.tensor([1.0, 2.0]), 5)
        read |= recorded.read
    by_the_run = {"stage_switch", "plateau_threshold"} if policy.num_stages == 2 else set()
    # every update looks at its losses in the unit that is asked for; most policies go by them, some don't
    assert read - {"seed", "loss_unit", *EVERY_POLICY} == set(POLICY_LIST[name].reads) - {"loss_unit"} - by_the_run
    assert by_the_run <= set(POLICY_LIST[name].reads)


def test_shuffled_topics_reads_what_its_policy_reads():
    assert settings_read(SHUFFLED, "toremi-2") == ("of", *settings_read("toremi-2"))


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"random-weights", "frozen", "shuffled-topics"}))
@settings(max_examples=10)
@given(course=LOSSES, order=st.permutations(range(4)))
def test_order_of_topics_does_not_matter(name, course, order):
    names = ("sizes", "ngram_loss", "unigram_loss", "reference_loss")
    data = PolicyData(**{name: [getattr(DATA, name)[k] for k in order] for name in names})
    config = PolicyConfig(name=name, burn_in_steps=0)
    permuted = make_policy(config, [TOPICS[k] for k in order], data)
    expected = run(make(name), course)[list(order)]
    found = run(permuted, [[losses[k] for k in order] for losses in course])
    assert torch.allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["group-dro", "shearing", "odm", "ado", "toremi", "stratified", "temperature"])
@settings(max_examples=10)
@given(course=LOSSES)
def test_weights_mean_1_over_the_tokens(name, course):
    policy = make(name)
    weights = run(policy, course)
    assert float((weights * policy.natural).sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["stratified", "temperature", "shearing", "frozen"])
def test_what_is_needed_is_asked_for(name):
    with pytest.raises(ValueError, match=f"policy '{name}' needs"):
        make_policy(PolicyConfig(name=name), TOPICS)


@pytest.mark.parametrize("name", POLICIES)
def test_only_static_policies_never_move(name):
    policy = make(name)
    first = policy.weights.clone()
    run(policy, [[0.5, 6.0 - i, 5.0, 7.0 + i] for i in range(12)])
    moved = not torch.equal(policy.weights, first)
    assert moved or policy.static or policy.sample_level
    assert not (moved and policy.static)


class NeedsSensitivity(Uniform):
    name = "needs-sensitivity"
    needs = frozenset({"sizes", "sensitivity"})


def test_what_an_interval_must_measure_is_asked_for(monkeypatch):
    monkeypatch.setitem(POLICIES, NeedsSensitivity.name, NeedsSensitivity)
    policy = make("needs-sensitivity")
    expected = "policy 'needs-sensitivity' needs sensitivity: how strongly"
    with pytest.raises(MissingNeed, match=expected):
        policy.check_measures({"loss", "num_bytes"})
    policy.check_measures({"sensitivity"})
    with pytest.raises(MissingNeed, match=expected):
        policy.update(stats([2.0] * 4))
    with pytest.raises(MissingNeed, match="policy 'shuffled-topics' needs sensitivity"):
        ShuffledTopics(policy).check_measures({"loss"})
    with pytest.raises(MissingNeed, match="needs sizes"):
        make_policy(PolicyConfig(name="needs-sensitivity"), TOPICS)


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"linupper", "frozen"}))
def test_bad_losses_are_refused(name):
    with pytest.raises(ValueError, match=r"step 75.*'b'.*nan"):
        make(name).update(measured(stats([2.0, math.nan, 3.0, 4.0], step=75, counts=[1, 1, 1, 1])))
