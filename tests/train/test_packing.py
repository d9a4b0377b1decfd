"""Order and packing: every token predicted once, whatever the number of ranks and wherever a run stops."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toremi_cli.train.order import SampleOrder, shuffled_order
from toremi_cli.train.packing import RowStream, micro_batch_rows

lengths = st.lists(st.integers(1, 30), min_size=1, max_size=25)


def stream(num_tokens: list[int], row_length: int, seed: int = 0) -> RowStream:
    return RowStream(shuffled_order(np.arange(len(num_tokens)), np.array(num_tokens), "fp", seed), row_length)


def pieces(rows) -> list[tuple[int, int]]:
    """Each predicted token of the rows, in order, as (sample, position)."""
    return [
        (s, a + i)
        for s, a, n in zip(rows.sample.tolist(), rows.start.tolist(), rows.length.tolist(), strict=True)
        for i in range(n)
    ]


@given(lengths, st.integers(1, 17), st.integers(1, 5))
def test_rows_are_full_and_in_order(num_tokens, row_length, num_rows):
    rows = stream(num_tokens, row_length).next_rows(num_rows)
    filled = np.bincount(rows.row, weights=rows.length, minlength=num_rows)
    assert filled.tolist() == [row_length] * num_rows
    assert (np.diff(rows.row) >= 0).all()


@given(lengths, st.integers(1, 17))
def test_an_epoch_predicts_every_token_once(num_tokens, row_length):
    total = sum(num_tokens) + len(num_tokens)
    rows = stream(num_tokens, row_length).next_rows(-(-total // row_length))
    seen = pieces(rows)[:total]
    assert sorted(seen) == [(s, p) for s, n in enumerate(num_tokens) for p in range(n + 1)]


@given(lengths, st.integers(1, 17), st.integers(1, 6), st.integers(0, 6))
@settings(max_examples=60)
def test_stopping_anywhere_changes_nothing(num_tokens, row_length, batch, stop):
    whole = stream(num_tokens, row_length)
    uninterrupted = [pieces(whole.next_rows(batch)) for _ in range(8)]
    first = stream(num_tokens, row_length)
    head = [pieces(first.next_rows(batch)) for _ in range(stop)]
    state = json.loads(json.dumps(first.state_dict()))
    second = stream(num_tokens, row_length)
    second.load_state_dict(state)
    assert head + [pieces(second.next_rows(batch)) for _ in range(8 - stop)] == uninterrupted


@given(st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 4), st.integers(0, 20), lengths, st.integers(1, 17))
def test_ranks_and_micro_steps_share_the_rows(world_size, micro_steps, extra, num_tokens, row_length):
    num_rows = world_size * micro_steps + extra
    rows = stream(num_tokens, row_length).next_rows(num_rows)
    parts = [part for rank in range(world_size) for part in micro_batch_rows(num_rows, world_size, rank, micro_steps)]
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(num_rows))
    together = sorted(piece for part in parts for piece in pieces(rows.select(part)))
    assert together == sorted(pieces(rows))


def test_epochs_and_seeds_differ():
    length = np.ones(100, np.int64)
    order = shuffled_order(np.arange(100), length, "fp", 0)
    first, second = order.take(200), order.take(200)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first.tolist() != second.tolist()
    assert shuffled_order(np.arange(100), length, "fp", 1).take(200).tolist() != first.tolist()


def drawn_order(num_predicted: np.ndarray, shares) -> SampleOrder:
    samples = np.argsort(np.arange(len(num_predicted)) % len(shares), kind="stable")
    sizes = np.bincount(samples % len(shares))
    return SampleOrder(samples, sizes, num_predicted - 1, np.array(shares), "fp", 0)


@given(st.lists(st.integers(2, 30), min_size=6, max_size=40), st.integers(1, 60), st.integers(0, 8))
def test_stopping_a_drawn_order_anywhere_changes_nothing(num_predicted, tokens, stop):
    predicted = np.array(num_predicted, np.int64)
    whole, first, second = (drawn_order(predicted, [0.2, 0.3, 0.5]) for _ in range(3))
    uninterrupted = [whole.take(tokens).tolist() for _ in range(9)]
    head = [first.take(tokens).tolist() for _ in range(stop)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert head + [second.take(tokens).tolist() for _ in range(9 - stop)] == uninterrupted


def test_draws_follow_the_shares_and_repeat_a_sample_last():
    predicted = np.full(90, 5, np.int64)
    order = drawn_order(predicted, [0.1, 0.3, 0.6])
    samples = order.take(5 * 200)
    assert np.bincount(samples % 3) == pytest.approx([20, 60, 120], abs=2)
    for stratum in range(3):
        counts = np.bincount(samples[samples % 3 == stratum], minlength=90)[stratum::3]
        assert counts.max() - counts.min() <= 1
    order.draws.set_shares(np.array([1.0, 0.0, 0.0]))
    assert set((order.take(5 * 30) % 3).tolist()) == {0}


WORLD_SIZES = (1, 2, 3, 4, 6)
INTERVAL = 3


class Stream:
    """A run's data: steps of rows, shared out to ranks, with shares that change every few steps if they are drawn."""

    def __init__(self, num_predicted: list[int], row_length: int, adaptive: bool) -> None:
        self.predicted, self.adaptive, self.step = np.array(num_predicted, np.int64), adaptive, 0
        order = (
            drawn_order(self.predicted, [0.2, 0.3, 0.5])
            if adaptive
            else shuffled_order(np.arange(len(num_predicted)), self.predicted - 1, "fp", 0)
        )
        self.rows = RowStream(order, row_length)

    def next_step(self, num_rows: int, world_size: int) -> list[list[tuple[int, int]]]:
        """What each rank reads in a step, as pieces; then the shares change, as a policy would change them."""
        rows = self.rows.next_rows(num_rows)
        parts = [pieces(rows.select(*micro_batch_rows(num_rows, world_size, r, 1))) for r in range(world_size)]
        self.step += 1
        if self.adaptive and self.step % INTERVAL == 0:
            self.rows.order.draws.set_shares(np.roll([0.1, 0.2, 0.7], self.step))
        return parts

    def state(self) -> str:
        return json.dumps({"step": self.step, "rows": self.rows.state_dict()})

    def load(self, state: str) -> None:
        values = json.loads(state)
        self.step = values["step"]
        self.rows.load_state_dict(values["rows"])


@given(
    st.lists(st.integers(2, 30), min_size=6, max_size=40),
    st.integers(1, 17),
    st.booleans(),
    st.permutations(WORLD_SIZES),
    st.integers(0, 3),
)
@settings(max_examples=15)
def test_ranks_may_change_at_any_step(num_predicted, row_length, adaptive, world_sizes, extra):
    """For every world size and every stop step: the ranks together read what one rank reads, and go on with it."""
    num_rows, num_steps = 6 + extra, 8
    alone = Stream(num_predicted, row_length, adaptive)
    expected, states = [], [alone.state()]
    for _ in range(num_steps):
        (step,) = alone.next_step(num_rows, 1)
        expected.append(together([step]))
        states.append(alone.state())
    for before, after in zip(world_sizes, [*world_sizes[1:], world_sizes[0]], strict=True):
        first = Stream(num_predicted, row_length, adaptive)
        for stop in range(num_steps):
            assert first.state() == states[stop]
            second = Stream(num_predicted, row_length, adaptive)
            second.load(first.state())
            rest = [together(second.next_step(num_rows, after)) for _ in range(num_steps - stop)]
            assert rest == expected[stop:]
            assert together(first.next_step(num_rows, before)) == expected[stop]


def together(parts: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    return sorted(piece for part in parts for piece in part)


@given(st.lists(st.integers(2, 30), min_size=6, max_size=40), st.sampled_from(WORLD_SIZES), st.booleans())
@settings(max_examples=40)
def test_each_token_comes_once_before_any_comes_twice(num_predicted, world_size, adaptive):
    """Over the ranks of all steps; under adaptive sampling within each stratum."""
    run = Stream(num_predicted, 7, adaptive)
    read = [piece for _ in range(12) for part in run.next_step(6, world_size) for piece in part]
    times = np.zeros(len(num_predicted), np.int64)
    for sample, position in read:
        times[sample] += position == 0
    strata = np.arange(len(num_predicted)) % 3 if adaptive else np.zeros(len(num_predicted), np.int64)
    for stratum in np.unique(strata):
        counts = times[strata == stratum]
        assert counts.max() - counts.min() <= 1
