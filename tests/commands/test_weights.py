"""`toremi weights` as a user sees it."""

from __future__ import annotations

import json

import pytest

from tests.shell import assert_one_line_error, toremi
from toremi_cli.commands.weights import sparkline
from toremi_cli.files import write_json
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import WEIGHTS
from toremi_cli.tables import write_table


@pytest.fixture
def workdir(tmp_path):
    run = tmp_path / "runs" / "mine"
    rows = [
        {
            "step": step,
            "tokens_seen": step * 100,
            "stage": 1,
            "topic": topic,
            "weight": weight,
            "loss": None if topic == "Law" else 3.5,
            "num_samples": 0 if topic == "Law" else 7,
        }
        for step, pair in ((10, (1.5, 1.0)), (20, (5.0, 1.0)))
        for topic, weight in zip(("Sports", "Law"), pair, strict=True)
    ]
    write_table(run / "weights" / "part-00000.parquet", WEIGHTS, rows, provenance_of(WEIGHTS, "toremi", {}, {}))
    policy = {"name": "toremi-2", "w_min": 0.1, "w_max": 5.0}
    write_json(run / "run.json", {"config": {"policy": policy}, "schedule": {"max_steps": 40}, "status": "running"})
    return tmp_path


def test_table(workdir):
    process = toremi("weights", "mine", "-w", workdir)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert "toremi-2, step 20 of 40, stage 1, 2 updates of 2 topics" in lines[0]
    assert lines[2].split()[:3] == ["Sports", "5.000", "↑"]
    assert "▃█" in lines[2], "1.5 is a quarter of the way from 1 to 5, as factors go"
    assert lines[3].split()[:3] == ["Law", "1.000", "–"]
    assert max(len(line) for line in lines) <= 80


def test_json(workdir):
    found = json.loads(toremi("weights", "mine", "-w", workdir, "--json").stdout)
    assert found["topics"][0] == {
        "topic": "Sports",
        "num_samples": 14,
        "loss": 3.5,
        "course": [1.5, 5.0],
        "weight": 5.0,
        "at_bound": "w_max",
    }


def test_no_such_run(workdir):
    assert_one_line_error(toremi("weights", "other", "-w", workdir), "other", "mine")


def test_no_weights_yet(workdir):
    (workdir / "runs" / "mine" / "weights" / "part-00000.parquet").unlink()
    assert_one_line_error(toremi("weights", "mine", "-w", workdir), "no weights yet")


def test_sparkline():
    assert sparkline([0.1, 1, 10], 0.1, 10) == "▁▅█", "weights are factors: a tenth is as far from 1 as ten"
    assert sparkline([0, 0.002, 2], 0, 2) == "▁▁█", "nothing is as low as a thousandth of the highest"
    assert sparkline([1, 1], 1, 1) == sparkline([0, 0], 0, 0) == "▁▁"
    assert len(sparkline(list(range(100)), 0, 99, width=10)) == 10
