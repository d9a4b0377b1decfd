"""A device's peak is measured once, and kept where other processes find it."""

from __future__ import annotations

import json
import math
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
import torch

from toremi_cli import caches
from toremi_cli.train.peak import OPERATIONS, _name_of, matmul_peak, remembered

NAME = "NVIDIA H100 80GB HBM3 132 torch.bfloat16  torch 2.11.0+cu128"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "toremi" / "peaks"


def not_again():
    raise AssertionError("measured again")


def test_what_one_process_has_measured_others_take(cache):
    assert remembered(NAME, lambda: 7e14) == 7e14
    assert remembered(NAME, not_again) == 7e14
    assert remembered(NAME.replace("80GB", "94GB"), lambda: 8e14) == 8e14
    assert sorted(path.name for path in cache.iterdir())[0] == (
        "NVIDIA-H100-80GB-HBM3-132-torch.bfloat16-torch-2.11.0-cu128.json"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", f'{{"of": "{NAME}", "{OPERATIONS}": NaN}}', '{"of": "T4"}'])
def test_a_damaged_file_is_replaced(cache, content):
    remembered(NAME, lambda: 1.0)
    (path,) = cache.iterdir()
    path.write_text(content)
    assert remembered(NAME, lambda: 2.0) == remembered(NAME, not_again) == 2.0
    assert json.loads(path.read_text()) == {"of": NAME, OPERATIONS: 2.0}


def write_often(number):
    for _ in range(20):
        path = caches.own_cache() / "peaks"
        for known in path.glob("*.json"):
            known.unlink(missing_ok=True)
        assert remembered(NAME, lambda: float(number)) in (1.0, 2.0, 3.0)


def test_many_may_write_at_once(cache):
    writers = [get_context("fork").Process(target=write_often, args=(number,)) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(list(cache.iterdir())) == 1
    assert remembered(NAME, not_again) in (1.0, 2.0, 3.0)


def test_without_a_place_to_write_it_is_kept_in_a_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nobody")
    monkeypatch.setattr(caches.tempfile, "gettempdir", lambda: str(tmp_path))
    assert remembered(NAME, lambda: 3.0) == remembered(NAME, not_again) == 3.0
    (own,) = tmp_path.iterdir()
    (own / "peaks").rename(own / "other")
    (own / "peaks").touch()  # now nothing can be written below it
    assert [remembered(NAME, lambda value=value: value) for value in (4.0, 5.0)] == [4.0, 5.0]


def test_a_cpu_is_measured_by_each_process(cache):
    assert math.isfinite(matmul_peak(torch.device("cpu"), torch.float32))
    assert not cache.exists()


def test_a_peak_belongs_to_a_card_its_parts_in_use_and_the_arithmetic(monkeypatch):
    card = SimpleNamespace(name="NVIDIA A100", multi_processor_count=108)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    device, names = torch.device("cuda"), set()
    for precision in ("highest", "high"):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda precision=precision: precision)
        names |= {_name_of(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    card.multi_processor_count = 42
    names.add(_name_of(device, torch.bfloat16))
    assert len(names) == 4 and all(torch.__version__ in name for name in names)
