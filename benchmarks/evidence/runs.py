"""One cell of the grid: train, then measure checkpoints on the test split. What is done already is left alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.evidence.corpora import workdir_of
from benchmarks.evidence.grid import PROXY, TUNING_SEED, WITHOUT, Cell, Preset
from benchmarks.evidence.rates import chosen_rate
from benchmarks.evidence.shell import run_status, toremi

from toremi_cli.policy_config import POLICY_LIST

EVAL_SAMPLES = 16
"""Validation samples a source, for the curves."""

WARMUP = 8
"""In which part of a run, 1 over this, the learning rate rises. With a twentieth and twice the rate of before, narrow
models got stuck by chance: 2.597 bits a byte where the same run came to 2.451 with an eighth."""


def train(cell: Cell, preset: Preset, out: Path, annotated: Path, rate: float) -> Path:
    """Train a cell, or go on where it stopped; return the run's folder.

    A finished one is left alone, but by `toremi pretrain`, which refuses a run of that name with other settings.

    Raises:
        SystemExit: it was stopped on the way, which is no failure to `toremi`, but no result here.
    """
    workdir = workdir_of(out, cell.arm.corpus)
    folder = workdir / "runs" / cell.name
    every = preset.steps // preset.checkpoints
    burn_in: list[str] = []
    if "burn_in_steps" in POLICY_LIST[cell.trained_by].reads:
        burn_in = ["--set", f"burn_in_steps={preset.steps // 10}"]
    toremi(
        "pretrain", "--workdir", workdir, "--annotated", annotated, "--name", cell.name, "--seed", cell.seed,
        "--model", preset.model, "--context-length", preset.context_length, "--topics", cell.topics,
        *preset.flags,
        *found_before(cell, preset, out, annotated),
        "--max-steps", preset.steps, "--interval", preset.interval, "--batch-size", preset.batch_size,
        "--learning-rate", rate * preset.learning_rate, *burn_in,
        "--warmup-steps", preset.steps // WARMUP,
        "--eval-every", every, "--eval-samples", EVAL_SAMPLES,
        "--checkpoint-every", every, "--keep-checkpoints", 1 if cell.seed == TUNING_SEED else preset.checkpoints - 1,
        *cell.policy_flags(),
        one_rank=True,
    )  # fmt: skip
    if run_status(folder) != "finished":
        raise SystemExit(f"{folder}: stopped before its last step; start the grid again to go on")
    return folder


def found_before(cell: Cell, preset: Preset, out: Path, annotated: Path) -> list[object]:
    """Flags that name what other runs have found for this one, after training them.

    DoReMi (arXiv 2305.10429, section 2): a reference model; a proxy under group DRO by the excess over the reference's
    losses; a third run that draws by the proxy's mean weights. Here all three have the same size, data and seed, the
    first two the learning rate of `uniform`.
    """
    rate = chosen_rate(cell.arm, "uniform", out)
    if cell.is_bound:
        return ["--weights-from", weights_without(cell, out)]
    if cell.policy == PROXY:
        reference = train(Cell(cell.arm, "uniform", cell.seed), preset, out, annotated, rate)
        return ["--reference-losses", reference / "weights"]
    if cell.policy == "doremi":
        proxy = train(Cell(cell.arm, PROXY, cell.seed), preset, out, annotated, rate)
        table = proxy / "mean-weights.parquet"
        where = ["--workdir", workdir_of(out, cell.arm.corpus), "-o", table]
        toremi("export", proxy.name, "--to", "weights", "--weights", "mean", *where, flags=("--quiet",))
        return ["--weights-from", table]
    return []


def weights_without(cell: Cell, out: Path) -> Path:
    """Write weights of the sources: 0 for those that a bound leaves out, 1 for the others."""
    path = workdir_of(out, cell.arm.corpus) / f"{cell.policy}.parquet"
    sources = sorted(file.stem for file in (out / f"{cell.arm.corpus}-text").glob("*.jsonl"))
    left_out = cell.policy.removeprefix(WITHOUT)
    weights = [float(not source.startswith(left_out)) for source in sources]
    if all(weights):
        raise SystemExit(f"{cell.policy}: no source's name begins with {left_out!r}; there are {', '.join(sources)}")
    pq.write_table(pa.table({"step": [0] * len(sources), "topic": sources, "weight": weights}), path)
    return path


def measure(cell: Cell, preset: Preset, out: Path, unseen: Path | None = None) -> None:
    """Score the kept checkpoints on the test split and on unseen documents; then only the last one stays on disk."""
    workdir = workdir_of(out, cell.arm.corpus)
    folder = workdir / "runs" / cell.name
    done = folder / "measured"
    if done.exists():
        return
    how = ["--checkpoint", "all", "--topics", "none", *preset.eval_flags]
    toremi("eval", cell.name, "--workdir", workdir, *how)
    if unseen is not None:
        toremi("eval", cell.name, "--workdir", workdir, "--data", unseen, *how)
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in checkpoints[:-1]:
        shutil.rmtree(checkpoint)
    done.touch()


def is_measured(cell: Cell, out: Path) -> bool:
    """Whether a cell is done."""
    return (workdir_of(out, cell.arm.corpus) / "runs" / cell.name / "measured").exists()
