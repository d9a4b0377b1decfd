import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toremi_cli.corpus.hashing import HashSet, keyed_hash, text_hashes
from toremi_cli.corpus.stratified import StratifiedSample


@given(st.lists(st.lists(st.integers(0, 40), max_size=20), max_size=20))
def test_hash_set_is_a_set(batches):
    seen, known = HashSet(), set()
    for batch in batches:
        expected = [v not in known and v not in batch[:i] for i, v in enumerate(batch)]
        assert seen.add(np.array(batch, dtype=np.uint64)).tolist() == expected
        known.update(batch)
    assert len(seen) == len(known)


def test_hash_set_stays_small_and_few_runs():
    seen = HashSet()
    for i in range(200):
        seen.add(text_hashes(f"{i}/{j}" for j in range(50)))
    assert len(seen) == 10_000
    assert len(seen._runs) < 12


def test_purposes_are_independent():
    assert keyed_hash("a", "x", 1) == keyed_hash("a", "x", 1)
    assert len({keyed_hash("a", "x", 1), keyed_hash("b", "x", 1), keyed_hash("a", "x", 2), keyed_hash("a", "x1")}) == 4


def draw(items, budget):
    sample = StratifiedSample(budget)
    for source, key in items:
        sample.add(source, key, 1, (source, key))
    return sample


def test_stratified_sample_is_fair_and_bounded():
    items = [("big", keyed_hash("k", i)) for i in range(1000)] + [("small", keyed_hash("k", i)) for i in range(10)]
    sample = draw(items, 100)
    kept = sample.items()
    assert sample.total == len(kept) == 100
    assert sum(source == "small" for source, _ in kept) == 10, "a small source is kept whole"
    big = sorted(key for source, key in items if source == "big")
    assert sorted(key for source, key in kept if source == "big") == big[:90], "the smallest keys stay"
    assert draw(items, 5000).total == 1010


def test_stratified_sample_keeps_one_item_larger_than_the_budget():
    sample = StratifiedSample(10)
    sample.add("a", 1, 50, "huge")
    assert sample.items() == ["huge"]
