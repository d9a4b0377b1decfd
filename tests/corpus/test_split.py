import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toremi_cli.corpus.hashing import HASH_RANGE
from toremi_cli.corpus.split import NOTHING_HELD_OUT, CutFinder, Cuts, SplitPlan, block_hash, holdout_hash


def find(values, holdout, floor):
    finder = CutFinder(holdout, floor)
    for value in values:
        finder.add(value)
    return finder.cuts()


@settings(max_examples=200)
@given(
    st.lists(st.integers().map(lambda i: holdout_hash(str(i))), min_size=20, max_size=300, unique=True),
    st.sampled_from([0.001, 0.01, 0.1, 0.5]),
    st.randoms(use_true_random=False),
)
def test_cuts_keep_the_floor_take_the_smallest_and_ignore_order(values, holdout, shuffler):
    cuts = find(values, holdout, 2)
    splits = {value: cuts.split_of(value) for value in values}
    validation = sorted(v for v, s in splits.items() if s == "validation")
    test = sorted(v for v, s in splits.items() if s == "test")
    assert len(validation) >= 2 and len(test) >= 2
    assert sorted(values)[: len(validation) + len(test)] == validation + test
    expected = sum(v < holdout / 2 * HASH_RANGE for v in values)
    assert len(validation) == max(2, expected)
    shuffler.shuffle(values)
    assert find(values, holdout, 2) == cuts


def test_large_sources_follow_the_share():
    values = [holdout_hash(f"doc{i}") for i in range(20_000)]
    cuts = find(values, 0.02, 2)
    counts = [sum(cuts.split_of(v) == split for v in values) for split in ("validation", "test")]
    assert all(150 < count < 250 for count in counts), counts


def test_no_holdout():
    values = [holdout_hash(f"doc{i}") for i in range(100)]
    assert find(values, 0.0, 2) == NOTHING_HELD_OUT


def test_the_hash_is_frozen():
    assert holdout_hash("doc1") == 12271168370701022776, "held-out text of finished runs would become training text"


@pytest.mark.parametrize("source, expected", [("docs", ["test", "test"]), ("blocks", ["validation", "train"])])
def test_plan_splits_by_document_or_by_block(source, expected):
    cut = block_hash("d", 0) + 1
    doc_id = next(f"d{i}" for i in range(99) if block_hash(f"d{i}", 0) < cut <= block_hash(f"d{i}", 1))
    plan = SplitPlan(by_document={"docs": Cuts(0, HASH_RANGE)}, by_block={"blocks": Cuts(cut, cut)})
    assert plan.splits(source, doc_id, 2) == expected


def test_what_the_floor_of_one_source_holds_out_is_told():
    finder = CutFinder(0.001, 2)
    values = [holdout_hash(f"doc{i}") for i in range(20)]
    finder.add_all(np.array(values, np.uint64))
    lowest = sorted(values)[:4]
    assert lowest[0] > 0.001 * HASH_RANGE, "nothing by share"
    assert list(map(finder.exceptions(finder.cuts()).get, lowest)) == ["validation", "validation", "test", "test"]
    assert list(map(finder.exceptions(finder.cuts(1)).get, lowest)) == ["validation", "test", None, None]
    assert finder.exceptions(finder.cuts(0)) == {}
