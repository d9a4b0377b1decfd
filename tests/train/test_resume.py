"""Stopping at any moment and going on changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from tests import forks, shell
from tests.forks import Process
from tests.shell import assert_one_line_error, environment
from tests.test_engine import wait_until
from tests.train.smallrun import ARGUMENTS, metrics, weights
from toremi_cli.errors import TableError
from toremi_cli.runs.record import update_run
from toremi_cli.schemas import ANNOTATED
from toremi_cli.tables import TableReader
from toremi_cli.train.order import ORDER_VERSION

SETTINGS = ["--keep-checkpoints", "all", "--set", "normalize=true"]


def start(workdir: Path, *arguments: str) -> Process:
    command = ["pretrain", "-w", workdir, "--model", workdir / "dropout.json", *ARGUMENTS, *SETTINGS, *arguments]
    return shell.start(*command)


def wait_for_step(process: Process, run: Path, step: int) -> None:
    """Wait until the run's metrics reach a step; at 0, until the run has begun."""

    def reached() -> bool:
        assert process.poll() is None, f"ended before step {step}: {process.communicate()[1]}"
        if step == 0:
            return (run / "run.json").exists()
        with suppress(TableError, OSError):
            return max(row["step"] for row in metrics(run)) >= step
        return False

    wait_until(reached, seconds=300)


def assert_equal_runs(run: Path, other: Path) -> None:
    assert weights(run) == weights(other)
    assert metrics(run) == metrics(other)
    a, b = (load_file(folder / "checkpoint-24" / "model.safetensors") for folder in (run, other))
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(workdir: Path) -> Path:
    process = start(workdir, "--name", "whole-dropout")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return workdir / "runs" / "whole-dropout"


@pytest.mark.parametrize("step", [0, 8, 17])
def test_killed_and_resumed_equals_uninterrupted(workdir, whole, step):
    name = f"killed-{step}"
    run = workdir / "runs" / name
    process = start(workdir, "--name", name)
    wait_for_step(process, run, step)
    process.kill()  # the ranks end with it
    process.communicate()
    resumed = start(workdir, "--name", name, "--resume")
    _, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert_equal_runs(run, whole)


MANY = pytest.mark.slow


@pytest.mark.parametrize(
    ("seed", "num_kills"), [(0, 3), pytest.param(1, 30, marks=MANY), pytest.param(2, 30, marks=MANY)]
)
def test_killed_at_random_moments(workdir, seed, num_kills):
    """Whatever the run is doing then: starting, training, saving. With weights on the loss, and with sampling."""
    command = ["-m", "tests.train.killing", str(workdir), str(seed), str(num_kills)]
    process = forks.run(command, None, environment(), 900, *forks.TRAINING)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout.split("RESULT", 1)[1])
    assert result["kills"] >= num_kills
    for name, whole in result["pairs"]:
        assert_equal_runs(workdir / "runs" / name, workdir / "runs" / whole)


def test_another_number_of_ranks_continues_the_same_batches(workdir, uninterrupted, pretrain):
    run = workdir / "runs" / "elastic"
    shutil.copytree(uninterrupted, run)
    for checkpoint in run.glob("checkpoint-*"):
        if int(checkpoint.name.split("-")[1]) > 10:  # in the middle of an interval and of a log window
            shutil.rmtree(checkpoint)
    record = json.loads((run / "run.json").read_text())
    record["config"]["name"], record["status"] = "elastic", "running"
    (run / "run.json").write_text(json.dumps(record))
    process = pretrain("--name", "elastic", "--keep-checkpoints", "all", "--gpus", "0", "--processes", "2", "--resume")
    assert process.returncode == 0, process.stderr
    for kind in (weights, metrics):
        for a, b in zip(kind(run), kind(uninterrupted), strict=True):
            assert {k: v for k, v in a.items() if not isinstance(v, float)} == {
                k: v for k, v in b.items() if not isinstance(v, float)
            }
            assert [v for v in a.values() if isinstance(v, float)] == pytest.approx(
                [v for v in b.values() if isinstance(v, float)], rel=1e-4, abs=1e-6
            )  # a gap near 0 is the difference of two losses


def test_a_full_disk_is_one_line_and_leaves_no_half_checkpoint(workdir, pretrain):
    limit = 40_000  # bytes a file may have: less than the model, more than the tables
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); from toremi_cli.cli import main; main()"
    )
    arguments = ["pretrain", "-w", workdir, "--model", workdir / "model.json", *ARGUMENTS, "--name", "full"]
    process = forks.run(["-c", code, *map(str, arguments)], None, environment(), 300)
    assert_one_line_error(process, "cannot write the checkpoint", "make room, then run the same command again")
    assert not list((workdir / "runs" / "full").glob("checkpoint-*"))
    resumed = pretrain("--name", "full")
    assert resumed.returncode == 0, resumed.stderr


def test_sigterm_saves_and_says_how_to_go_on(workdir, whole):
    run = workdir / "runs" / "stopped"
    process = start(workdir, "--name", "stopped", "--async-checkpoint")
    wait_for_step(process, run, 6)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "--resume" in errors
    resumed = start(workdir, "--name", "stopped")  # the same command is enough
    _, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert "resuming after step" in errors
    assert_equal_runs(run, whole)


def test_ctrl_c_saves_and_exits_130(workdir):
    run = workdir / "runs" / "interrupted"
    process = start(workdir, "--name", "interrupted")
    wait_for_step(process, run, 3)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert list(run.glob("checkpoint-*"))


def test_ctrl_c_before_the_first_step_is_one_line(workdir, tmp_path):
    """While the worker still imports what it needs."""
    command = [sys.executable, "-m", "toremi_cli.cli", "pretrain", "-w", workdir, "--model", workdir / "model.json"]
    env = environment(TMPDIR=str(tmp_path))
    process = subprocess.Popen([*command, *ARGUMENTS, "--name", "early"], stderr=subprocess.PIPE, text=True, env=env)
    wait_until(lambda: list(tmp_path.glob("*/pid-0")), seconds=300)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "error: " in errors


def test_by_default_the_last_two_checkpoints_stay(workdir, pretrain):
    process = pretrain("--name", "default-keep")
    assert process.returncode == 0, process.stderr
    kept = {path.name for path in (workdir / "runs" / "default-keep").glob("checkpoint-*")}
    assert kept == {"checkpoint-20", "checkpoint-24"}


def test_a_checkpoint_of_another_version_is_refused(workdir, pretrain):
    process = pretrain("--name", "older")
    assert process.returncode == 0, process.stderr
    run = workdir / "runs" / "older"
    update_run(run, status="running", order=1)
    assert_one_line_error(
        pretrain("--name", "older", "--resume"), "read the samples in another order", "start another with --name"
    )
    update_run(run, order=ORDER_VERSION)
    state = run / "checkpoint-24" / "trainer_state.json"
    older = {key: value for key, value in json.loads(state.read_text()).items() if key != "version"}
    state.write_text(json.dumps(older))
    process = pretrain("--name", "older", "--resume")
    assert process.returncode == 1
    assert_one_line_error(process, str(state), "another version of toremi (format 1", "--overwrite")


@pytest.mark.parametrize("change", ["grown", "edited"])
def test_a_corpus_that_changed_under_a_run_is_refused(workdir, pretrain, tmp_path, change):
    rows = TableReader(workdir / "annotated", ANNOTATED).read().replace_schema_metadata(None)
    begun = rows.slice(0, 80)
    corpus = tmp_path / "corpus.parquet"
    pq.write_table(begun, corpus)
    arguments = ["--annotated", corpus, "--name", f"under-{change}", "--keep-checkpoints", "all"]
    process = pretrain(*arguments)
    assert process.returncode == 0, process.stderr
    run = workdir / "runs" / f"under-{change}"
    before = weights(run)

    texts = [text.upper() for text in begun["text"].to_pylist()]
    edited = begun.set_column(begun.schema.get_field_index("text"), "text", pa.array(texts))
    pq.write_table(rows if change == "grown" else edited, corpus)
    assert_one_line_error(pretrain(*arguments), f"under-{change}: finished, but", "has changed since", "--overwrite")
    shutil.rmtree(run / "checkpoint-24")  # as if killed after step 20
    update_run(run, status="running")
    process = pretrain(*arguments, "--resume")

    assert process.returncode == 1
    assert_one_line_error(process, str(run / "run.json"), "has changed since this run began", "--overwrite")
    assert weights(run) == before
    assert (run / "checkpoint-20").is_dir()
