"""Whole runs through the shell: what they write, and that ranks and micro-steps don't matter."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from math import isfinite
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tests.shell import assert_one_line_error, environment, toremi
from tests.train.smallrun import ARGUMENTS, MODEL, metrics, weights
from toremi_cli.errors import TrainingError
from toremi_cli.schemas import ANNOTATED, METRICS, WEIGHTS
from toremi_cli.tables import TableReader
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.needs import refuse_what_cannot_fit


def assert_same_weights(run, other):
    assert len(run) == len(other) > 0
    for a, b in zip(run, other, strict=True):
        assert (a["step"], a["topic"], a["stage"], a["num_samples"]) == (
            b["step"],
            b["topic"],
            b["stage"],
            b["num_samples"],
        )
        assert a["weight"] == pytest.approx(b["weight"], rel=1e-4)
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_a_run_leaves_its_tables_and_checkpoints(uninterrupted):
    rows = weights(uninterrupted)
    seen = [row for row in rows if row["num_samples"]]
    assert all(row["token_loss"] == pytest.approx(row["loss"], rel=0.3) for row in seen)
    assert all(row["shuffled_loss"] == pytest.approx(row["loss"], rel=0.3) for row in seen)
    assert all(row["shuffled_loss"] != row["token_loss"] for row in seen)
    assert all(0 < row["num_words"] < row["num_tokens"] for row in seen)
    assert all(abs(row["word_gain"]) < row["loss"] for row in seen)
    assert {row["topic"] for row in rows} == {"Sports", "Politics", "Law"}
    assert sorted({row["step"] for row in rows}) == [4, 8, 12, 16, 20, 24]
    assert all(row["tokens_seen"] == row["step"] * 12 * 32 for row in rows)
    assert any(row["weight"] != 1 for row in rows)
    assert all(isfinite(row["loss"]) if row["num_samples"] else row["loss"] is None for row in rows)
    assert sum(row["num_samples"] for row in rows) > 100
    assert [row["step"] for row in metrics(uninterrupted, "train_loss")] == list(range(3, 25, 3))
    domains = {row["domain"] for row in metrics(uninterrupted, "eval_loss")}
    assert domains == {"wire", "web", "all", "macro"}
    assert {p.name for p in uninterrupted.glob("checkpoint-*")} == {f"checkpoint-{n}" for n in (5, 10, 15, 20, 24)}
    for kind in (WEIGHTS, METRICS):
        assert TableReader(uninterrupted / kind.name, kind).record["command"] == "toremi pretrain"
    assert json.loads((uninterrupted / "run.json").read_text())["status"] == "finished"


def test_the_loss_falls(uninterrupted):
    losses = [row["value"] for row in metrics(uninterrupted, "train_loss")]
    assert losses[-1] < losses[0] - 0.3


def test_transformers_loads_a_checkpoint(uninterrupted):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = uninterrupted / "checkpoint-24"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size % 64 == 0
    assert model.config.eos_token_id == tokenizer.eos_token_id
    ids = tokenizer("The court said", return_tensors="pt").input_ids
    assert torch.isfinite(model(input_ids=ids, labels=ids).loss)


OTHERS_CONFIG = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
downcast_bf16: 'no'
dynamo_config: {dynamo_backend: INDUCTOR}
enable_cpu_affinity: true
fsdp_config: {fsdp_version: 1, fsdp_offload_params: true}
gpu_ids: '0'
machine_rank: 1
main_process_ip: 192.0.2.1
main_process_port: 1
mixed_precision: fp16
num_machines: 2
num_processes: 1
"""


def test_two_ranks_with_accumulation_equal_one(uninterrupted, workdir, tmp_path):
    """Also where accelerate has a default config, and variables, and the current folder has modules, of others."""
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "default_config.yaml").write_text(OTHERS_CONFIG)
    for name in ("tokenize", "random", "types", "accelerate/__init__"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(__file__)")
    env = {"HF_HOME": str(tmp_path), "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "PET_NNODES": "2"}
    flags = ["--name", "two", "--gpus", "0", "--processes", "2", "--micro-batch", "2", "--json"]
    command = ["pretrain", "-w", workdir, "--model", workdir / "model.json", *ARGUMENTS, *flags]
    console_script = Path(sys.executable).with_name("toremi")
    process = subprocess.run(
        [console_script, *command], capture_output=True, text=True, cwd=tmp_path, env=environment(**env)
    )
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout)
    assert summary["step"] == 24
    assert "2 x cpu" in process.stderr and "3 micro-steps of 2" in " ".join(process.stderr.split())
    run = workdir / "runs" / "two"
    assert_same_weights(weights(run), weights(uninterrupted))
    for a, b in zip(metrics(run), metrics(uninterrupted), strict=True):
        assert (a["step"], a["name"], a["domain"]) == (b["step"], b["name"], b["domain"])
        # Rounding that Muon carries on shows most in the norm of the last gradients.
        assert a["value"] == pytest.approx(b["value"], rel=1e-3 if a["name"] == "grad_norm" else 1e-4), a


def test_a_finished_run_is_not_repeated(uninterrupted, pretrain):
    process = pretrain("--name", "whole", "--keep-checkpoints", "all")
    assert process.returncode == 0
    assert "finished already" in process.stderr


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_finished_run_is_not_repeated_by_ranks_that_others_launched(uninterrupted, pretrain, world_size):
    files = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*.*")}
    for rank in range(world_size):  # one after the other: they need not meet
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        process = pretrain("--name", "whole", "--keep-checkpoints", "all", "--json", **ranks, **place)
        assert process.returncode == 0, process.stderr
        if rank == 0:
            assert json.loads(process.stdout)["step"] == 24
            assert "finished already" in process.stderr
        else:
            assert process.stdout.strip() in ("", "{}")
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*.*")} == files


def test_another_config_does_not_touch_a_run(uninterrupted, pretrain):
    assert_one_line_error(pretrain("--name", "whole", "--set", "alpha=2"), "alpha was 1.0, is 2.0", "--overwrite")
    assert_one_line_error(
        pretrain("--name", "whole", "--resume", "--seed", "3"), "seed was 0, is 3", "leave the flag out"
    )


def test_nan_stops_the_run_and_names_the_step(workdir, pretrain):
    process = pretrain("--name", "nan", "--learning-rate", "1e9", "--grad-clip", "none", "--checkpoint-every", "1")
    assert process.returncode == 1
    assert_one_line_error(process, "step 2: the loss is nan", "learning-rate")
    assert [checkpoint.name for checkpoint in (workdir / "runs" / "nan").glob("*checkpoint-*")] == ["checkpoint-1"]
    files = list((workdir / "runs" / "nan" / "checkpoint-1").glob("*.safetensors"))
    assert {file.name for file in files} == {"model.safetensors", "shard-00000-of-00001.safetensors"}
    for file in files:
        assert all(bool(torch.isfinite(tensor).all()) for tensor in load_file(file).values()), file


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--gpus", "99"], ["--gpus 99", "this machine has"]),
        (["--gpus", "0", "--processes", "9999"], ["--processes 9999", "CPU cores"]),
        (["--policy", "nix"], ["nix", "toremi-2"]),
        (["--learning-rate", "-1"], ["--learning-rate -1", "at least 0"]),
        (["--grad-clip", "nan"], ["--grad-clip nan", "above 0"]),
        (["--beta1", "1.5"], ["--beta1 1.5", "below 1"]),
        (["--seed", "-1"], ["--seed -1", "from 0 to"]),
        (["--model", "nix"], ["--model nix", "1m"]),
        (["--name", "new", "--resume"], ["no run to resume"]),
        (["--max-steps", "5", "--epochs", "1"], ["one of the three"]),
        (["--workdir", "/nowhere"], ["/nowhere/annotated", "toremi annotate"]),
    ],
)
def test_bad_flags(pretrain, arguments, parts):
    assert_one_line_error(pretrain(*arguments), *parts)


def test_a_run_that_cannot_start_does_not_cost_the_one_that_it_would_have_replaced(pretrain, uninterrupted, tmp_path):
    unbuildable = tmp_path / "model.json"
    unbuildable.write_text(json.dumps({**MODEL, "n_head": 3}))  # doesn't divide n_embd: only the model itself says so
    before = everything_in(uninterrupted.parent)
    for flags in (
        ["--policy", "nix"],
        ["--annotated", "nowhere"],
        ["--context-length", "5000"],
        ["--model", unbuildable],
    ):
        assert pretrain("--name", uninterrupted.name, "--overwrite", *flags).returncode != 0
        assert everything_in(uninterrupted.parent) == before


def test_a_run_takes_the_place_of_another_once_it_has_begun(pretrain, workdir):
    run = workdir / "runs" / "again"
    for steps in ("3", "2"):
        process = pretrain("--name", "again", "--overwrite", "--max-steps", steps, "--eval-samples", "0")
        assert process.returncode == 0, process.stderr
        assert [path.name for path in run.glob("checkpoint-*")] == [f"checkpoint-{steps}"]
    assert [path.name for path in run.parent.glob(".*again*")] == []


def everything_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_table_that_is_not_there_is_not_called_trained_on(pretrain, uninterrupted):
    assert_one_line_error(pretrain("--name", uninterrupted.name, "--annotated", "nowhere"), "nowhere: no such table")


def test_without_topics_nothing_can_be_reweighted(pretrain, workdir, tmp_path):
    table = TableReader(workdir / "annotated", ANNOTATED).read()
    column = table.schema.get_field_index("labels")
    bare = table.set_column(column, "labels", pa.array([[]] * table.num_rows, table.schema.field("labels").type))
    pq.write_table(bare.replace_schema_metadata(None), tmp_path / "bare.parquet")
    flags = ("--annotated", tmp_path / "bare.parquet", "--policy", "toremi-2", "--name", "bare")
    assert_one_line_error(pretrain(*flags), "no sample has a topic by --topics labels", "--topics fine")


def test_no_training_sample(tmp_path, workdir):
    rows = TableReader(workdir / "annotated", ANNOTATED).read()
    column = rows.schema.get_field_index("split")
    held_out = rows.set_column(column, "split", pa.array(["test"] * rows.num_rows))
    pq.write_table(held_out.replace_schema_metadata(None), tmp_path / "held-out.parquet")
    process = toremi("pretrain", "-w", workdir, "--annotated", tmp_path / "held-out.parquet", *ARGUMENTS)
    assert_one_line_error(process, "no sample to train on")


def test_dry_run_tells_the_plan_and_trains_nothing(workdir, pretrain):
    process = pretrain("--dry-run", "--json", "--name", "planned", "--policy", "stratified")
    assert process.returncode == 0, process.stderr
    plan = json.loads(process.stdout)
    assert (plan["steps"], plan["tokens_per_step"], plan["intervals"]) == (24, 12 * 32, 6)
    assert plan["acts_on"] == "sampling"
    assert (plan["micro_batch"], plan["micro_steps"], plan["compiled"]) == (12, 1, False)
    assert {source["source"] for source in plan["sources"]} == {"wire", "web"}
    drawn = sum(source["epochs"] * source["num_tokens"] for source in plan["sources"])
    assert drawn == pytest.approx(24 * 12 * 32)
    assert not (workdir / "runs" / "planned").exists()
    shown = pretrain("--dry-run", "--policy", "stratified")
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    assert "the weights change only 6 times in 24 steps" in shown.stderr


def test_dry_run_refuses_what_has_no_room(workdir, pretrain):
    process = pretrain("--dry-run", "--max-steps", "1000000000", "--checkpoint-every", "1", "--keep-checkpoints", "all")
    assert_one_line_error(process, str(workdir), "checkpoints need", "GiB of disk", "--keep-checkpoints")
    assert "disk gib free" in process.stdout, "the plan is told all the same"
    plan = {"memory_gib_per_process": 9.0, "memory_gib_available": 8.0, "disk_gib": 1.0, "disk_gib_free": 1.0}
    with pytest.raises(TrainingError, match=r"needs 9\.0 GiB of memory and has 8\.0; use --chunked-loss or"):
        refuse_what_cannot_fit(plan, TrainConfig())
    refuse_what_cannot_fit(plan, TrainConfig(accelerate_config="sharded.yaml"))


def test_nothing_is_pickled(uninterrupted, workdir):
    endings = {
        path.suffix for root in (uninterrupted, workdir / "tokens") for path in root.rglob("*") if path.is_file()
    }
    assert endings <= {".json", ".toml", ".safetensors", ".parquet", ".npy"}


ANNOTATION_ALONE = {
    "gensim": "gensim",
    "hdbscan": "hdbscan",
    "scikit-learn": "sklearn",
    "threadpoolctl": "threadpoolctl",
}
ANNOTATION_ALONE |= {"top2vec": "top2vec", "umap-learn": "umap"}
"""What only annotation needs: distributions, and the modules in them."""
ON_A_TRAINING_MACHINE = """
import json, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))  # as if not installed
from typer.testing import CliRunner
from toremi_cli.cli import app
from toremi_cli.train import launch, start
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.needs import refuse_what_cannot_fit
from toremi_cli.train.worker import run_worker
code = run_worker(TrainConfig.from_json(json.loads(sys.argv[2])), resume=False)["exit_code"]
assert code == 0, code
for arguments in json.loads(sys.argv[3]):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (arguments, result.output, result.stderr)
"""


def test_a_machine_that_only_trains_needs_nothing_that_only_annotation_does(workdir, tmp_path):
    small = {"context_length": 32, "batch_size": 4, "max_steps": 4, "interval": 2, "eval_samples": 2, "gpus": 0}
    places = {"workdir": str(workdir), "name": "trainer-only", "model": str(workdir / "model.json")}
    config = json.dumps(TrainConfig(**small, **places).to_json())
    run = ["trainer-only", "-w", str(workdir)]
    after = [
        ["pretrain", "-w", str(workdir), "--dry-run", "--name", "other"],
        ["eval", *run, "--split", "validation"],
        ["report", *run, "--suite", "validation", "-o", str(tmp_path / "report.html")],
        ["export", *run, "--to", "yaml"],
    ]
    arguments = [json.dumps(list(ANNOTATION_ALONE.values())), config, json.dumps(after)]
    command = [sys.executable, "-c", ON_A_TRAINING_MACHINE, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert process.returncode == 0, process.stderr
    assert {row["step"] for row in weights(workdir / "runs" / "trainer-only")} == {2, 4}


def test_the_requirements_of_a_training_machine_are_those_of_the_package_but_for_annotation():
    root = Path(__file__).parents[2]
    needed = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    listed = (root / "requirements-train.txt").read_text("utf-8").splitlines()
    expected = [line for line in needed if re.split(r"[<>=]", line)[0] not in ANNOTATION_ALONE]
    assert [line for line in listed if not line.startswith("#")] == expected and len(expected) < len(needed)
