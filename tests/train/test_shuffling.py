"""Orders that are computed: each a permutation, all of them as likely, none like another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toremi_cli.reweight.strata import mix64
from toremi_cli.train.shuffling import shuffled


def order_of(size: int, key: int) -> np.ndarray:
    return shuffled(np.arange(size), np.full(size, size), np.full(size, key, np.uint64))


@given(st.integers(1, 3000), st.integers(0, 2**63))
@settings(max_examples=60)
def test_every_place_comes_once(size, key):
    assert sorted(order_of(size, key).tolist()) == list(range(size))


@given(st.integers(10**6, 2**62), st.integers(0, 2**63))
def test_sizes_beyond_memory_are_no_different(size, key):
    places = np.unique(np.linspace(0, size - 1, 1000).astype(np.int64))
    found = shuffled(places, np.full(len(places), size), np.full(len(places), np.uint64(key)))
    assert found.min() >= 0
    assert found.max() < size
    assert len(np.unique(found)) == len(places)


def test_permutations_of_several_sizes_and_keys_are_made_at_once():
    sizes, keys = [5, 1, 700, 5], [1, 2, 3, 4]
    wanted = np.concatenate([order_of(n, k) for n, k in zip(sizes, keys, strict=True)])
    places = np.concatenate([np.arange(n) for n in sizes])
    of_key = np.repeat(np.array(keys, np.uint64), sizes)
    assert shuffled(places, np.repeat(sizes, sizes), of_key).tolist() == wanted.tolist()


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 30])
def test_any_two_places_go_anywhere_as_often(size):
    """Over 20,000 keys each pair of values comes up within a tenth of its share, or 5 standard deviations."""
    times = 20_000
    keys = mix64(np.arange(times, dtype=np.uint64))
    every = shuffled(np.tile(np.arange(size), times), np.full(size * times, size), np.repeat(keys, size))
    every = every.reshape(times, size)
    expected = times / (size * (size - 1))
    for a, b in ((0, 1), (0, size - 1), (size // 2 - 1, size // 2)):
        counts = np.bincount(every[:, a] * size + every[:, b], minlength=size**2).reshape(size, size)
        apart = counts[~np.eye(size, dtype=bool)]
        assert abs(apart - expected).max() < max(0.1 * expected, 5 * np.sqrt(expected))


@pytest.mark.parametrize("size", [97, 1000])
def test_where_a_place_goes_tells_nothing_of_its_neighbour_and_of_another_key(size):
    orders = np.stack([order_of(size, key) for key in range(400)])
    for a, b in ((orders[:, :-1], orders[:, 1:]), (orders[:-1], orders[1:]), (orders, np.arange(size)[None])):
        a, b = np.broadcast_arrays(a, b)
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 5 / np.sqrt(a.size)
        steps = np.bincount((a - b).ravel() % size, minlength=size)[1:]  # 0 can't be between places of one order
        assert abs(steps - steps.mean()).max() < 6 * np.sqrt(steps.mean())
