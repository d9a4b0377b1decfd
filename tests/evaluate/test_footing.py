"""What was measured under unlike conditions is not subtracted."""

import json
import math

import numpy as np
import pytest

from tests.runs.synthetic import make_recorded_run
from toremi_cli.evaluate.bootstrap import DocumentScores
from toremi_cli.evaluate.compare import compare_runs
from toremi_cli.evaluate.results import EVAL_FILE, SCORES_FILE, conditions_of, keep_rows, read_rows, score_rows
from toremi_cli.evaluate.run_facts import read_facts
from toremi_cli.provenance import provenance_of
from toremi_cli.report.comparison_table import comparison_rows
from toremi_cli.runs.run import Run
from toremi_cli.schemas import EVAL, METRICS, SCORES
from toremi_cli.tables import TableReader, write_table

LONG, SHORT = conditions_of(context_length=64, stride=0), conditions_of(context_length=32, stride=16)
NAMES = ("uniform", "toremi")


@pytest.fixture
def workdir(tmp_path):
    for name in NAMES:
        make_recorded_run(tmp_path, name, ["a", "b"], policy=name)
    return tmp_path


def run_of(workdir, name):
    return Run(name, workdir / "runs" / name)


def measure(workdir, name, bits, step=900, conditions=LONG):
    """Keep scores of 20 documents that cost so many bits a byte on average."""
    rate = bits + np.random.default_rng(0).normal(0, 0.01, 20)
    num_bytes = np.full(20, 1000)
    ids = np.array([f"d{i:02d}" for i in range(20)])
    scores = DocumentScores(np.array(["a"] * 20), ids, rate * num_bytes * math.log(2), num_bytes // 4, num_bytes)
    rows = score_rows(f"checkpoint-{step}", "test", scores)
    keep_rows(run_of(workdir, name), SCORES_FILE, SCORES, (f"checkpoint-{step}", "test", conditions), rows, {})


def compared(workdir):
    found = compare_runs([run_of(workdir, name) for name in NAMES], "test")
    return found, found.groups[1], {row.label: row for row in comparison_rows(found)}


def test_conditions_are_words_and_leave_out_what_is_not_set():
    assert (LONG, SHORT) == ("context length 64", "context length 32, stride 16")
    assert conditions_of(learning_rate=2e-5, epochs=3, limit=0) == "learning rate 2e-05, epochs 3"


def test_numbers_under_other_conditions_stand_beside_each_other(workdir):
    measure(workdir, "uniform", 2.0)
    measure(workdir, "uniform", 1.9, conditions=SHORT)
    facts = read_facts(run_of(workdir, "uniform"), "test")
    assert set(facts.measured) == {LONG, SHORT} and facts.conditions == SHORT, "the newest"
    measure(workdir, "uniform", 1.8, conditions=LONG)
    facts = read_facts(run_of(workdir, "uniform"), "test")
    assert facts.conditions == LONG
    assert len(TableReader(workdir / "runs" / "uniform" / SCORES_FILE, SCORES).read()) == 40, (
        "one in place of the other"
    )


def test_runs_measured_with_other_context_lengths_are_not_subtracted(workdir):
    measure(workdir, "uniform", 2.0)
    measure(workdir, "toremi", 1.0, conditions=SHORT)
    found, group, rows = compared(workdir)
    assert group.difference == {} and not group.sure
    (warning,) = [w for w in found.warnings if "measured" in w]
    assert "uniform under context length 64, toremi under context length 32, stride 16: no difference" in warning
    assert rows["measured under"].cells == (LONG, SHORT)
    assert not any(rows["macro"].best), "nor ranked"
    assert group.saving.source == "in-run"


def test_the_conditions_that_all_have_are_chosen(workdir):
    measure(workdir, "uniform", 2.0)
    measure(workdir, "toremi", 1.9)
    measure(workdir, "toremi", 1.0, conditions=SHORT)
    found, group, rows = compared(workdir)
    assert group.difference["macro"].value == pytest.approx(-0.1) and found.warnings == []
    assert group.to_json()["measured_under"] == LONG and "measured under" not in rows


def test_runs_are_compared_at_the_last_step_that_all_were_measured_at(workdir):
    measure(workdir, "uniform", 2.0, step=400)
    measure(workdir, "toremi", 1.9, step=400)
    measure(workdir, "toremi", 1.5, step=900)
    found, group, rows = compared(workdir)
    assert group.difference["macro"].value == pytest.approx(-0.1), "not 1.5 at the end against 2.0 on the way"
    assert rows["measured at step"].cells == ("400", "400") and rows["steps"].cells == ("900", "900")
    assert found.warnings == [
        "last measured before their end: uniform at step 400 of 900; all are compared as they were at step 400"
    ]


def test_runs_measured_at_other_steps_are_not_subtracted(workdir):
    measure(workdir, "uniform", 2.0, step=400)
    measure(workdir, "toremi", 1.5, step=900)
    found, group, rows = compared(workdir)
    assert group.difference == {} and rows["measured at step"].cells == ("400", "900")
    assert "measured uniform at step 400, toremi at step 900: no difference is given" in found.warnings[-1]
    assert "toremi eval uniform toremi --checkpoint all" in found.warnings[-1]


def test_savings_count_the_baselines_tokens_when_it_was_measured(workdir):
    measure(workdir, "uniform", 1.5, step=450)
    for step, bits in ((150, 2.0), (300, 1.5), (450, 1.2)):
        measure(workdir, "toremi", bits, step=step)
    _, group, _ = compared(workdir)
    assert group.saving.source == "checkpoints"
    assert group.saving.saved == pytest.approx(1 / 3), "300 steps instead of 450, not instead of 900"


def test_scores_of_an_older_version_are_read_and_make_room(workdir):
    measure(workdir, "uniform", 2.0)
    path = workdir / "runs" / "uniform" / SCORES_FILE
    old = TableReader(path, SCORES).read(SCORES.column_names)
    write_table(path, SCORES, old, provenance_of(SCORES, "toremi eval", {}, {}))
    measure(workdir, "toremi", 1.0)
    found, group, _ = compared(workdir)
    assert group.difference == {} and any("conditions that were not recorded" in w for w in found.warnings)
    measure(workdir, "uniform", 1.9)
    assert len(TableReader(path, SCORES).read()) == 20
    assert compared(workdir)[1].difference["macro"].value == pytest.approx(-0.9)


def keep_task(workdir, name, value, conditions, num_items=100, step=900, stderr=0.01):
    row = {"run": name, "checkpoint": f"checkpoint-{step}", "suite": "tasks", "domain": "piqa", "metric": "accuracy"}
    row |= {"value": value, "num_tokens": 1, "num_bytes": 1, "num_samples": num_items, "stderr": stderr}
    here = (f"checkpoint-{step}", "tasks", conditions)
    keep_rows(run_of(workdir, name), EVAL_FILE, EVAL, here, [row], {}, ["piqa"])


def test_tasks_under_unlike_conditions_stand_in_rows_of_their_own(workdir):
    keep_task(workdir, "uniform", 0.5, "context length 64")
    keep_task(workdir, "toremi", 0.6, "context length 64")
    assert compared(workdir)[2]["piqa accuracy"].cells == ("0.5 ±0.01", "0.6 ±0.01 !")
    keep_task(workdir, "toremi", 0.9, "context length 64, limit 10", num_items=10)
    keep_task(workdir, "toremi", 0.7, "context length 64", step=450)
    found, _, rows = compared(workdir)
    assert rows["piqa accuracy"].cells == ("0.5 ±0.01", "0.6 ±0.01 !"), "under what both share, at the last checkpoint"
    assert len(read_rows(run_of(workdir, "toremi"))) == 3
    keep_task(workdir, "uniform", 0.8, "context length 32", num_items=10, step=450)
    (workdir / "runs" / "toremi" / EVAL_FILE).unlink()
    keep_task(workdir, "toremi", 0.9, "context length 64, limit 10", num_items=10)
    found, _, rows = compared(workdir)
    assert {label: row.cells for label, row in rows.items() if label.startswith("piqa")} == {
        "piqa accuracy (context length 64, 100 items)": ("0.5 ±0.01", "–"),
        "piqa accuracy (context length 32, 10 items, step 450)": ("0.8 ±0.01", "–"),
        "piqa accuracy (context length 64, limit 10, 10 items)": ("–", "0.9 ±0.01"),
    }
    assert any(w.startswith("piqa accuracy: measured under unlike conditions (") for w in found.warnings)


def test_task_results_are_told_apart_from_1_96_standard_errors_on(workdir):
    keep_task(workdir, "uniform", 0.5, "", stderr=0.03)
    keep_task(workdir, "toremi", 0.5 + 0.05 * 1.95, "", stderr=0.04)
    assert not compared(workdir)[2]["piqa accuracy"].cells[1].endswith("!")
    keep_task(workdir, "toremi", 0.5 + 0.05 * 1.97, "", stderr=0.04)
    assert compared(workdir)[2]["piqa accuracy"].cells[1].endswith("!")


def test_cost_counts_the_first_interval_and_steps_of_equal_tokens(workdir):
    run = run_of(workdir, "toremi")
    rates = ((50, 1000.0), (100, 4000.0), (900, 2000.0))
    rows = [
        {"step": s, "tokens_seen": s * 4096, "name": "tokens_per_second", "domain": "all", "value": v} for s, v in rates
    ]
    rows += [{**row, "name": "mfu", "value": row["value"] / 10_000} for row in rows]
    write_table(run.folder / "metrics" / "part-1.parquet", METRICS, rows, provenance_of(METRICS, "toremi", {}, {}))
    facts = read_facts(run, "test")
    assert facts.mfu == pytest.approx(0.2) and math.isnan(read_facts(run_of(workdir, "uniform"), "test").mfu)
    assert compared(workdir)[2]["model FLOPs utilization"].cells == ("–", "20%")
    assert facts.seconds == pytest.approx(4096 * (50 / 1000 + 50 / 4000 + 800 / 2000))
    assert [facts.tokens_at(step) for step in (0, 1, 450, 900)] == [0, 4096, 450 * 4096, 900 * 4096]
    record = json.loads((run.folder / "run.json").read_text())
    assert facts.seed == record["config"]["seed"]
