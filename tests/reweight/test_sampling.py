import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toremi_cli.reweight import StratumDraws, build_strata, importance, sampling_shares
from toremi_cli.reweight.sampling import shares_between


def indptr_of(sets):
    return np.cumsum([0, *map(len, sets)])


def strata_of(sets, **options):
    topic = np.array([t for s in sets for t in s], np.int64)
    return build_strata(indptr_of(sets), topic, np.ones(len(topic)), **options)


def test_strata_are_the_distinct_sets():
    sets = [(0, 1), (1,), (), (1, 0), (2,), ()]
    strata = strata_of(sets)
    of = strata.stratum_of
    assert of[0] == of[3]
    assert of[2] == of[5]
    assert len(set(of.tolist())) == 4
    assert strata.num_samples[of].tolist() == [2, 1, 2, 2, 1, 2]
    weights = strata.weights([2.0, 4.0, 0.5])
    assert weights[of].tolist() == [3.0, 4.0, 1.0, 3.0, 0.5, 1.0]


def test_soft_strata_go_by_the_top_topic():
    prob = np.array([0.7, 0.3, 0.4, 0.6, 0.9, 0.1])
    strata = build_strata(np.array([0, 2, 4, 6, 6]), np.array([0, 1, 0, 1, 0, 1]), prob, soft=True)
    of = strata.stratum_of
    assert of[0] == of[2] != of[1]
    assert of[3] not in of[:3]
    weights = strata.weights([1.0, 3.0])
    assert weights[of[0]] == pytest.approx((0.7 + 3 * 0.3 + 0.9 + 3 * 0.1) / 2)
    assert weights[of[3]] == 1.0


def test_rare_sets_join_their_first_topic():
    sets = [(0,)] * 50 + [(1,)] * 50 + [(0, 1, k) for k in range(2, 30)]
    strata = strata_of(sets, max_strata=8)
    assert len(strata.num_samples) <= 8
    assert strata.num_samples.sum() == len(sets)
    weights = strata.weights(np.ones(30))
    assert weights == pytest.approx(np.ones(len(weights)))


def test_no_topics_at_all():
    strata = strata_of([(), ()])
    assert strata.num_samples.tolist() == [2]
    assert strata.weights([5.0]).tolist() == [1.0]


def test_shares_follow_weight_times_size():
    shares = sampling_shares(np.array([1.0, 2.0, 0.5]), np.array([10, 10, 20]))
    assert shares == pytest.approx([0.25, 0.5, 0.25])


def test_what_is_used_up_is_not_drawn_for_its_floor():
    """Stratum 0 has 2 draws left of the 20 that its floor would give it."""
    shares = sampling_shares(
        np.ones(2), np.array([50, 50]), floor=0.4, max_repeats=1, drawn=np.array([48, 0]), remaining=51
    )
    assert shares == pytest.approx([2 / 51, 49 / 51])
    assert shares_between(np.array([0.5, 0.5]), np.array([0.7, 0.0]), np.array([1.0, 1.0])) == pytest.approx([0.7, 0.3])


def test_floor():
    shares = sampling_shares(np.array([0.0, 1.0, 1.0]), np.array([50, 25, 25]), floor=0.2)
    assert shares == pytest.approx([0.1, 0.45, 0.45])


def test_cap_on_repeats():
    sizes = np.array([10, 90])
    # 100 draws to come; the first stratum of 10 has been drawn 25 times and may be drawn 15 times more
    shares = sampling_shares(np.array([9.0, 1.0]), sizes, max_repeats=4, drawn=np.array([25, 30]), remaining=100)
    assert shares == pytest.approx([0.15, 0.85])
    # a run longer than all repeats: everything left is used up alike
    shares = sampling_shares(np.array([9.0, 1.0]), sizes, max_repeats=1, drawn=np.array([0, 0]), remaining=1000)
    assert shares == pytest.approx([0.1, 0.9])


WEIGHTS = st.lists(st.floats(0, 10), min_size=5, max_size=5)
SIZES = st.lists(st.integers(1, 500), min_size=5, max_size=5)


@given(WEIGHTS, SIZES, st.floats(0, 1), st.floats(1, 10), st.integers(1, 5000))
def test_shares_are_shares(weights, sizes, floor, max_repeats, remaining):
    weights, sizes = np.array(weights), np.array(sizes)
    shares = sampling_shares(weights, sizes, floor=floor, max_repeats=max_repeats, remaining=remaining)
    assert shares.sum() == pytest.approx(1)
    cap = max_repeats * sizes / remaining
    assert (shares >= np.minimum(floor * sizes / sizes.sum(), cap) - 1e-9).all()
    if cap.sum() >= 1:
        assert (shares <= cap + 1e-9).all()


@given(WEIGHTS.map(lambda w: [x + 0.01 for x in w]), SIZES, st.floats(0.01, 1))
def test_importance_keeps_the_objective(weights, sizes, floor):
    weights, sizes = np.array(weights), np.array(sizes)
    shares = sampling_shares(weights, sizes, floor=floor)
    factor = importance(weights, sizes, shares)
    objective = weights * sizes
    assert shares * factor == pytest.approx(objective / objective.sum())
    assert (shares * factor).sum() == pytest.approx(1)
    free = sampling_shares(weights, sizes)
    assert importance(weights, sizes, free) == pytest.approx(np.ones(5))


@settings(max_examples=30)
@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=20), st.integers(0, 10**9), st.integers(1, 3000))
def test_draws_stay_close_to_their_shares(values, seed, count):
    shares = np.array(values) / sum(values)
    strata, _ = StratumDraws(shares, seed).advance(count)
    drawn = np.bincount(strata, minlength=len(shares))
    assert (abs(drawn - shares * count) <= 5).all()  # independent draws would stray by sqrt(count)


def test_a_stratum_with_no_share_is_not_drawn():
    strata, _ = StratumDraws(np.array([0.5, 0.0, 0.5, 0.0]), 1).advance(5000)
    assert set(strata.tolist()) == {0, 2}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=10), st.integers(0, 99))
def test_batches_cut_anywhere_give_the_same_stream(cuts, seed):
    shares = np.array([0.2, 0.5, 0.3])
    whole = StratumDraws(shares, seed, "draws").advance(sum(cuts))
    one = StratumDraws(shares, seed, "draws")
    parts = []
    for cut in cuts:
        state = json.loads(json.dumps(one.state_dict()))
        one = StratumDraws(shares, seed, "draws")
        one.load_state_dict(state)
        ahead = one.peek(cut + 7)
        parts.append(one.advance(cut))
        assert (ahead[0][:cut] == parts[-1][0]).all()
    for k in (0, 1):
        assert (np.concatenate([p[k] for p in parts]) == whole[k]).all()


def test_ordinals_count_each_stratum_across_changes_of_shares():
    draws = StratumDraws(np.array([0.9, 0.1]), 0)
    seen = [[], []]
    for shares in ([0.9, 0.1], [0.1, 0.9], [0.5, 0.5]):
        draws.set_shares(np.array(shares))
        for stratum, ordinal in zip(*draws.advance(40), strict=True):
            seen[stratum].append(int(ordinal))
    assert seen[0] == list(range(len(seen[0])))
    assert seen[1] == list(range(len(seen[1])))
    assert draws.counts.tolist() == [len(s) for s in seen]


def test_seeds_differ():
    streams = [StratumDraws(np.full(10, 0.1), seed).peek(100)[0].tolist() for seed in range(3)]
    assert streams[0] != streams[1] != streams[2]
