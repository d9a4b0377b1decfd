"""The index of a run's samples: the same in memory and mapped, whatever stretches it is made by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from toremi_cli.errors import TrainingError
from toremi_cli.reweight import build_strata, strata
from toremi_cli.schemas import TRAIN
from toremi_cli.train.index_folder import _write, index_folder, open_index
from toremi_cli.train.npy import read_npy

MODES = ("fine", "labels", "source")


@pytest.fixture
def small_stretches(monkeypatch):
    monkeypatch.setattr(strata, "CHUNK", 7)


@pytest.mark.parametrize("mode", MODES)
def test_the_samples_lie_stratum_by_stratum(cache, mode):
    index = open_index(cache, mode)
    assert index.samples.tolist() == np.flatnonzero(cache.is_of(TRAIN, slice(None))).tolist()
    ends = np.cumsum(index.strata.num_samples)
    for k, members in enumerate(np.split(index.members, ends[:-1])):
        assert set(index.strata.stratum_of[members].tolist()) == {k}
        assert (np.diff(members.astype(int)) > 0).all()
        assert index.stratum_tokens[k] == (cache.length[members] + 1).sum()
    assert sorted(index.members.tolist()) == index.samples.tolist()


@pytest.mark.parametrize("mode", MODES)
def test_it_does_not_depend_on_the_stretches(cache, mode, tmp_path, small_stretches):
    whole = index_folder(cache.folder, mode)
    open_index(cache, mode)
    _write(cache, mode, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in whole.iterdir()}
    for path in tmp_path.glob("*.npy"):
        values = read_npy(path)
        assert values.dtype == read_npy(whole / path.name).dtype
        np.testing.assert_allclose(values, read_npy(whole / path.name), rtol=1e-12, err_msg=path.name)
    assert (tmp_path / "meta.json").read_text() == (whole / "meta.json").read_text()


def test_strata_of_all_samples_and_of_a_subset_agree(small_stretches):
    generator = np.random.default_rng(0)
    sets = [np.flatnonzero(generator.random(12) < 0.15) for _ in range(200)]
    indptr, topic = np.cumsum([0, *map(len, sets)]), np.concatenate(sets)
    counted = generator.random(200) < 0.7
    some = build_strata(indptr, topic, np.ones(len(topic)), counted=counted, max_strata=20)
    own = [sets[k] for k in np.flatnonzero(counted)]
    alone = build_strata(
        np.cumsum([0, *map(len, own)]), np.concatenate(own), np.ones(sum(map(len, own))), max_strata=20
    )
    assert some.stratum_of[counted].tolist() == alone.stratum_of.tolist()
    for name in ("num_samples", "pair_stratum", "pair_topic"):
        assert getattr(some, name).tolist() == getattr(alone, name).tolist()
    assert some.pair_prob == pytest.approx(alone.pair_prob)


def test_a_rank_that_waits_for_an_index_gives_up_where_nobody_makes_it(cache, tmp_path):
    with pytest.raises(TrainingError, match="the first rank has not built it"):
        open_index(replace(cache, folder=tmp_path), "fine", build=False, patience_seconds=0.3)
