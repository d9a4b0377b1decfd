import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toremi_cli.corpus import first_seen
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


@pytest.mark.parametrize(("most", "num_partitions", "workers"), [(10_000, 1, 1), (100, 4, 1), (7, 64, 1), (100, 4, 2)])
def test_partitions_mark_what_one_set_does(tmp_path, monkeypatch, most, num_partitions, workers):
    monkeypatch.setattr(first_seen, "PARTITION_HASHES", most)
    sizes = [50, 0, 1, 200, 33, 9]
    first = first_seen.mark_first(hashes_of, sizes, tmp_path / "marks", workers=workers)
    assert len(list(tmp_path.glob("marks/*.npy"))) == num_partitions
    seen = HashSet()
    for number in range(len(sizes)):
        assert first.marks_of(number).tolist() == seen.add(hashes_of(number)).tolist()
    assert 100 < len(seen) < 250, "some are repeated"


def hashes_of(number):
    """Lists of hashes, of which two in three come more than once."""
    size = [50, 0, 1, 200, 33, 9][number]
    drawn = np.random.default_rng(number).integers(0, 300, size)
    return text_hashes(str(value) for value in drawn)


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


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 4)), max_size=400), st.integers(1, 30)
)
def test_stratified_sample_turns_out_of_the_fullest_source(offers, budget):
    sample, kept = StratifiedSample(budget), []
    for number, (source, key, cost) in enumerate(offers):
        if sample.wants(source, key):
            kept.append((source, key, -number, cost))
        sample.add(source, key, cost, (source, key, -number, cost))
        while sum(item[3] for item in kept) > budget and len(kept) > 1:
            costs = {name: sum(item[3] for item in kept if item[0] == name) for name, *_ in kept}
            fullest = max(costs, key=lambda name: (costs[name], name))
            kept.remove(max(item for item in kept if item[0] == fullest))
        assert sorted(sample.items()) == sorted(kept)


def test_stratified_sample_of_many_sources_stays_small():
    sample = StratifiedSample(20_000)
    for number in range(60_000):
        sample.add(f"source {number}", number, 1, number)
    assert sample.total == len(sample.items()) == 20_000
    assert len(sample._fullest) <= 2 * 20_000 + 101


def test_stratified_sample_keeps_one_item_larger_than_the_budget():
    sample = StratifiedSample(10)
    sample.add("a", 1, 50, "huge")
    assert sample.items() == ["huge"]
