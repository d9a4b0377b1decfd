import math
from dataclasses import replace

import pytest
import torch

from tests.reweight.policies.test_toremi_paper import stats
from toremi_cli.reweight import MissingNeed, PolicyConfig, PolicyData, make_policy
from toremi_cli.reweight.policies.toremi import ENOUGH, FLOOR, STEEP

NAN = math.nan
SIZES = [1.2, 1.1, 0.9, 0.8]
CLEAN, ROTE, NOISE, JUNK = (4.0, 6.5), (0.1, 5.0), (6.2, 6.1), (1.5, 3.5)
"""L and S, or the entropies under n-grams and under unigrams: worth 10, 0.5, 0 and 3 nats squared."""


def make(before=None, sizes=SIZES, **options):
    ngram, unigram = zip(*before, strict=True) if before else (None, None)
    data = PolicyData(sizes=sizes, ngram_loss=ngram, unigram_loss=unigram)
    return make_policy(PolicyConfig(name="toremi", **options), [f"t{k}" for k in range(len(sizes))], data)


def seen(*measured, tokens=1000.0, word_gain=None):
    """An interval; None for a topic that it didn't see. Without `word_gain` words gain what all tokens do."""
    loss, shuffled = zip(*((NAN, NAN) if m is None else m for m in measured), strict=True)
    f = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    counts = f([0.0 if m is None else tokens for m in measured])
    interval = stats([None if m is None else m[0] for m in measured])
    words = f(shuffled) - f(loss) if word_gain is None else f(word_gain)
    context = {"shuffled_loss": f(shuffled), "word_gain": words, "num_words": counts / 2}
    return replace(interval, token_loss=f(loss), num_tokens=counts, **context)


def shares(policy):
    return (policy.weights * policy.natural).tolist()


def held(value, natural, part):
    """What is left of a topic's part, of a value relative to the median, where the part is above its natural share."""
    trust = min(1, value / ENOUGH) ** STEEP
    return natural * trust * (part / natural) ** trust


def test_before_the_first_step_what_is_worth_less_than_most_is_drawn_less():
    policy = make([CLEAN, CLEAN, NOISE, JUNK])
    clean, other, noise, junk = shares(policy)
    assert other / clean == pytest.approx(1)
    assert junk / clean == pytest.approx(held(3 / 10, natural=0.8 / 4, part=0.25) / 0.25)  # the median is 10
    assert noise / clean == pytest.approx(held(0.0, natural=0.9 / 4, part=0.25) / 0.25)


def test_what_is_worth_about_as_much_as_most_is_left_alone():
    better, worse = (5.0, 8.0), (4.0, 5.9)  # 15 and 7.6; the median is 10
    policy = make([CLEAN, better, CLEAN, worse])
    assert shares(policy) == pytest.approx(shares(make()))


def test_without_n_grams_it_begins_with_equal_shares():
    assert shares(make()) == pytest.approx([1 / 4] * 4)
    assert shares(make([(NAN, NAN)] * 4)) == pytest.approx(shares(make()))


def test_a_topic_too_small_to_be_counted_is_worth_enough():
    assert shares(make([CLEAN, CLEAN, CLEAN, (NAN, NAN)])) == pytest.approx(shares(make()))


def test_what_is_worth_less_is_not_raised():
    """Three topics of equal parts; that of the small one is five times its natural share."""
    middling = (3.0, 4.5)  # worth 4.5
    small, large, other = shares(make([middling, CLEAN, CLEAN], sizes=[0.2, 1.4, 1.4]))
    part = 1 - 2 * FLOOR * 1.4 / 3  # what the large ones leave to the small one
    assert large == pytest.approx(other)
    assert small / large == pytest.approx(held(0.45, natural=0.2 / 3, part=part) / (FLOOR * 1.4 / 3))
    assert small < 0.1 * part


def test_equal_shares_raise_nothing_to_more_than_w_max_times_its_size():
    """A topic of one in a thousand would be raised 250 times by equal shares, and its few samples known by heart."""
    weights = make(sizes=[0.001, 1.0, 1.0, 1.0]).weights.tolist()
    assert weights[0] == pytest.approx(5.0)
    assert make(sizes=[0.001, 1.0, 1.0, 1.0], w_max=2.0).weights[0] == pytest.approx(2.0)


def test_noise_rote_and_junk_lose_by_what_the_model_measures_alone():
    policy = make(sizes=[6.0, 1.5, 1.5, 1.0])
    policy.update(seen(CLEAN, ROTE, NOISE, JUNK))
    clean, rote, noise, junk = shares(policy)
    large, part = FLOOR * 0.6, (1 - FLOOR * 0.6) / 3
    assert junk / clean == pytest.approx(held(0.3**2, natural=0.1, part=part) / large)  # 3 of a median of 10
    assert rote / clean == pytest.approx(held(0.049**2, natural=0.15, part=part) / large)
    assert noise / clean == pytest.approx(0, abs=1e-9)


def test_what_keeps_an_order_within_its_words_alone_is_noise():
    policy = make(sizes=[6.0, 1.5, 1.5, 1.0])
    policy.update(seen(CLEAN, CLEAN, CLEAN, CLEAN, word_gain=[2.0, 2.0, 2.0, 0.4]))
    clean, _, _, shuffled = shares(policy)
    assert shuffled / clean == pytest.approx(held(0.2, natural=0.1, part=(1 - FLOOR * 0.6) / 3) / (FLOOR * 0.6))


def test_text_without_words_is_judged_by_all_its_tokens():
    policy = make()
    without = seen(CLEAN, CLEAN, CLEAN, CLEAN, word_gain=[2.0, 2.0, 2.0, NAN])
    without.num_words[3] = 0
    policy.update(without)
    assert shares(policy) == pytest.approx(shares(make()))


def test_the_model_counts_as_far_as_it_uses_context():
    """n-grams gain 2.5 nats by context; a model that gains a tenth of that in a topic knows little of it yet."""
    sizes = [1.0] * 4  # all of equal parts already
    young, grown, old = (make([CLEAN] * 4, sizes=sizes) for _ in range(3))
    young.update(seen((7.0, 7.25), (7.0, 7.25), (7.0, 7.25), (1.4, 1.65)))  # the last is worth 0.2 of the others
    grown.update(seen((4.0, 6.5), (4.0, 6.5), (4.0, 6.5), (2.4, 4.9)))  # 0.6
    old.update(seen((3.0, 8.0), (3.0, 8.0), (3.0, 8.0), (1.8, 6.8)))
    relative = [shares(p)[3] / shares(p)[0] for p in (young, grown, old)]
    trust = (0.6**2 / ENOUGH) ** STEEP  # by all tokens and by words
    assert relative == pytest.approx([1.0, trust, trust])  # (0.2^2)^0.1 = 0.72: trusted yet


def test_what_is_new_to_the_model_is_not_taken_for_noise():
    """Of two topics of one loss and gain, n-grams find much context in one, and little in the other."""
    policy = make([CLEAN, CLEAN, CLEAN, (4.0, 6.5), (5.5, 6.5)], sizes=[1.0] * 5)
    weak = (6.0, 6.75)  # 4.5 of a median of 10
    policy.update(seen(CLEAN, CLEAN, CLEAN, weak, weak))
    clean, _, _, new, noise = shares(policy)
    assert new / clean == pytest.approx(((0.45**2) ** 0.3 / ENOUGH) ** STEEP)
    assert noise / clean == pytest.approx((0.55 * (0.45**2) ** 0.75 / ENOUGH) ** STEEP)


def test_the_median_is_that_of_the_text_not_of_topics():
    """Nine small topics of ten are junk; most of the text is not."""
    policy = make([JUNK] * 9 + [CLEAN], sizes=[1.0] * 9 + [20.0])
    assert policy.weights[9] > 1.3
    assert policy.weights[:9].max() < 0.15


def test_topics_of_a_kind_share_what_one_alone_gets_and_large_ones_keep_most_of_theirs():
    names, sizes = ["a", "b", "alone", "large"], [1.0, 1.0, 1.0, 7.0]
    data = PolicyData(sizes=sizes, crowding=[2.0, 2.0, 1.0, 1.0])
    policy = make_policy(PolicyConfig(name="toremi"), names, data)
    a, b, alone, large = shares(policy)
    assert large == pytest.approx(FLOOR * 0.7)
    assert (a, b) == pytest.approx((alone / 2, alone / 2))
    with pytest.raises(ValueError, match=r"crowding .*: expected a number of at least 1 for each of 4 topics"):
        make_policy(PolicyConfig(name="toremi"), names, PolicyData(sizes=sizes, crowding=[0.5, 1.0, 1.0, 1.0]))


def test_a_topic_not_seen_keeps_what_was_measured_of_it():
    policy = make()
    policy.update(seen(CLEAN, CLEAN, JUNK, CLEAN))
    before = policy.weights.clone()
    policy.update(seen(CLEAN, CLEAN, None, CLEAN))
    assert policy.weights.tolist() == pytest.approx(before.tolist())


def test_old_losses_are_forgotten():
    policy = make()
    for _ in range(10):
        policy.update(seen(CLEAN, CLEAN, CLEAN, NOISE))
    for _ in range(2):
        policy.update(seen(CLEAN, CLEAN, CLEAN, CLEAN))
    old = sum(i**4 for i in range(1, 11)) / sum(i**4 for i in range(1, 13))  # an interval at n of N tokens: (n/N)^4
    value = ((4 + 2.2 * old) * (2.5 - 2.6 * old) / 10) ** 2
    expected = held(value, natural=0.8 / 4, part=0.25) / 0.25
    assert shares(policy)[3] / shares(policy)[0] == pytest.approx(expected)
    for _ in range(20):
        policy.update(seen(CLEAN, CLEAN, CLEAN, CLEAN))
    assert shares(policy) == pytest.approx(shares(make())), "what turns into text comes back"


def test_on_the_loss_weights_stay_within_their_bounds_with_mean_1():
    policy = make([CLEAN, ROTE, NOISE, JUNK], apply="loss", w_min=0.2, w_max=2.0)
    policy.update(seen(CLEAN, ROTE, NOISE, JUNK))
    assert float((policy.weights * policy.natural).sum()) == pytest.approx(1.0)
    assert policy.weights.min() == pytest.approx(0.2)
    assert policy.weights.max() <= 2.0 + 1e-9


def test_odd_corpora():
    alone = make([(NAN, NAN)], sizes=[1.0])
    alone.update(seen(CLEAN))
    assert alone.weights.tolist() == [1.0]
    nothing = make([NOISE] * 4)
    nothing.update(seen(*[NOISE] * 4))
    assert shares(nothing) == pytest.approx(shares(make())), "where all is noise, none is held back"
    single = make()
    single.update(seen((5.0, 5.0), CLEAN, CLEAN, CLEAN))  # samples of one token have no other
    assert bool(torch.isfinite(single.weights).all())


def test_it_says_what_it_lacks():
    with pytest.raises(MissingNeed, match="needs num_words: the tokens that begin a word"):
        make().check_measures({"loss", "num_samples", "num_tokens", "token_loss"})
