"""The grid of the evidence: what it runs, and how it chooses learning rates. The runs themselves take hours."""

import csv
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.evidence.beside import draw, write_beside
from benchmarks.evidence.grid import ABLATIONS, JUNK, PRESETS, TUNING_SEED, Arm, Cell, cells
from benchmarks.evidence.rates import chosen_rate, record_rate, tried_rates
from benchmarks.evidence.report import arm_section
from benchmarks.evidence.results import Measured, Result, baseline_label, saved
from benchmarks.evidence.runs import train, weights_without
from benchmarks.evidence.tuning import next_rate

from tests.train.smallrun import weights, write_workdir
from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.export.shares import learnt_weights
from toremi_cli.reweight import POLICIES
from toremi_cli.runs.history import read_history
from toremi_cli.runs.run import Run


@pytest.mark.parametrize("optimum", [0.25, 0.9, 1.0, 1.4, 8.0])
def test_a_rate_is_searched_until_a_worse_one_lies_on_either_side(optimum):
    tried = {}
    while (rate := next_rate(tried)) is not None:
        tried[rate] = abs(math.log2(rate / optimum))
    best = min(tried, key=lambda rate: tried[rate])
    assert abs(math.log2(best / optimum)) <= 0.5
    assert tried[2 * best] >= tried[best] <= tried[best / 2]
    assert len(tried) <= 3 + abs(math.log2(best))


def test_the_search_is_not_caught_on_one_side_of_a_bad_rate():
    """As measured for `toremi` with noise: worst in the middle."""
    values, tried = {0.25: 2.62, 0.5: 2.50, 1.0: 2.603, 2.0: 2.591, 4.0: 2.651}, {}
    while (rate := next_rate(tried)) is not None:
        tried[rate] = values[rate]
    assert tried == {rate: values[rate] for rate in (0.25, 0.5, 1.0, 2.0)}


def test_an_arm_takes_the_rate_that_was_found_for_its_kind(tmp_path):
    noisy = Arm(noise=0.4, kind="boilerplate")
    for rate, value in ((1.0, 2.5), (2.0, 2.4), (4.0, 2.6)):
        folder = tmp_path / "mixed" / "runs" / Cell(noisy.tuned_on, "toremi", TUNING_SEED, rate).name
        folder.mkdir(parents=True)
        record_rate(folder, rate, value)
    assert tried_rates(noisy.tuned_on, "toremi", tmp_path) == {1.0: 2.5, 2.0: 2.4, 4.0: 2.6}
    assert chosen_rate(noisy, "toremi", tmp_path) == 2.0
    assert chosen_rate(Arm(topics="source", noise=0.1, kind="boilerplate"), "toremi", tmp_path) == 2.0
    for untried in (Arm(), Arm(noise=0.25)):
        assert chosen_rate(untried, "toremi", tmp_path) == 1.0
    assert chosen_rate(noisy, "toremi-2", tmp_path) == 1.0


def test_doremi_is_three_runs_and_none_is_trained_twice(tmp_path):
    workdir = write_workdir(tmp_path / "mixed")
    preset = replace(PRESETS["quick"], context_length=32, steps=8, interval=2, batch_size=4, checkpoints=2)
    cell = Cell(Arm(topics="source"), "doremi", seed=0)
    run = train(cell, preset, tmp_path, workdir / "annotated", 1.0)
    names = {folder.name for folder in (workdir / "runs").iterdir()}
    assert names == {f"mixed-source-clean-{policy}-s0" for policy in ("uniform", "doremi-proxy", "doremi")}
    proxy = read_history(Run("proxy", workdir / "runs" / "mixed-source-clean-doremi-proxy-s0"))
    drawn = read_history(Run("doremi", run)).topics
    assert dict(zip(drawn.topics, drawn.weight[-1], strict=True)) == pytest.approx(learnt_weights(proxy, "mean"))
    assert len(set(drawn.weight[-1])) > 1
    written = {path: path.stat().st_mtime_ns for path in workdir.glob("runs/*/*/*")}
    assert train(cell, preset, tmp_path, workdir / "annotated", 1.0) == run
    assert {path: path.stat().st_mtime_ns for path in workdir.glob("runs/*/*/*")} == written


def test_a_bound_draws_nothing_of_the_sources_that_it_leaves_out(tmp_path):
    workdir = write_workdir(tmp_path / "junk")
    (tmp_path / "junk-text").mkdir()
    for source in ("wire", "web"):
        (tmp_path / "junk-text" / f"{source}.jsonl").touch()
    preset = replace(PRESETS["quick"], context_length=32, steps=8, interval=2, batch_size=4, checkpoints=2)
    run = train(Cell(JUNK, "without-we", seed=0), preset, tmp_path, workdir / "annotated", 1.0)
    drawn = Counter()
    for row in weights(run):
        drawn[row["topic"]] += row["num_samples"]
    assert drawn["wire"] > 0 == drawn["web"]
    with pytest.raises(SystemExit, match="no source's name begins with 'junk_logs'; there are web, wire"):
        weights_without(Cell(JUNK, "without-junk_logs", seed=0), tmp_path)


def test_a_policy_may_name_its_rate():
    preset = replace(PRESETS["small"], policies=("uniform", "uniform@0.5"), seeds=(0,), arms=(Arm(),))
    best, half = cells(preset)
    assert (best.policy, best.rate, best.label) == ("uniform", 0.0, "uniform")
    assert (half.policy, half.rate, half.label) == ("uniform", 0.5, "uniform@0.5")
    assert best.policy_flags() == half.policy_flags()
    assert best.name != half.name
    assert baseline_label(["toremi", half.label, best.label]) == best.label
    assert baseline_label(["toremi", half.label]) == half.label


@pytest.mark.parametrize("name", list(PRESETS))
def test_no_two_runs_share_a_folder_and_all_policies_exist(name):
    runs = list(cells(PRESETS[name]))
    assert len({cell.name for cell in runs}) == len(runs) > 0
    assert {cell.policy_flags()[1] for cell in runs} <= set(POLICIES)
    assert TUNING_SEED not in PRESETS[name].seeds
    assert all(ABLATIONS[policy][0] in POLICIES for policy in PRESETS[name].ablations)


def test_the_table_pairs_seeds_and_tells_the_time_a_token(tmp_path):
    def result(policy, seed, bits, speed):
        curve = [(100, bits + 1), (200, bits)]
        nats = np.array([0.9, 1.0, 1.1]) * bits * math.log(2)
        scores = DocumentScores(np.array(["news"] * 3), np.arange(3), nats, np.ones(3), np.ones(3))
        measured = Measured({"news": bits, "macro": bits, "micro": bits}, curve, scores)
        return Result(Cell(Arm(), policy, seed), 0.004, measured, 200, speed)

    results = [result("uniform", seed, 2 + seed / 10, 1000) for seed in range(3)]
    results += [result("toremi", seed, 1.9 + seed / 10, 800 + 100 * seed) for seed in range(3)]
    for own, base in zip(results[3:], results[:3], strict=True):
        own.saved = saved(own, base)
    text = arm_section(Arm(), results, tmp_path / "page.md")
    row = next(line for line in text.splitlines() if line.startswith("| `toremi`"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        "3", "0.004", "2.0000 ± 0.1000", "-0.1000 (-0.1000 to -0.1000)", "5% ± 0%", "-0.1000 (-0.1000 to -0.1000)",
        "-0.1000 (-0.1000 to -0.1000)", "news -4.8%",
    ]  # fmt: skip
    assert "Time a token, over `uniform`'s: `toremi` 1.11." in text
    assert (tmp_path / "page" / "mixed-fine-clean-curves.svg").stat().st_size > 0

    write_beside(results, tmp_path / "beside.csv", PRESETS["small"], "first")
    first, *_ = rows = list(csv.DictReader((tmp_path / "beside.csv").open(encoding="utf-8")))
    assert [(row["policy"], row["seed"]) for row in rows] == [("toremi", "0"), ("toremi", "1"), ("toremi", "2")]
    assert [first[column] for column in ("annotation", "model", "rate", "difference")] == [
        "first", "1m", "searched", "-0.1",
    ]  # fmt: skip
    assert (first["worst_source"], first["worst_name"]) == ("-0.05", "news")
    # Three documents: by t, with two degrees of freedom. They lose 0.045, 0.05 and 0.055 of the baseline's bits.
    assert (first["worst_low"], first["worst_high"]) == ("-0.065", "-0.035")
    worse = {**first, "policy": "group-dro", "difference": "0.5"}
    junk, clean = draw([*rows, worse]).axes
    assert [label.get_text() for label in junk.get_yticklabels()] == ["toremi"]
    assert clean.get_lines()[1].get_xdata() == pytest.approx([-0.1] * 3)
