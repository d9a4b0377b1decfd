"""The script for a GPU runs whole on the CPU, at toy size."""

from __future__ import annotations

import json
from pathlib import Path

from tests import forks
from tests.shell import environment


def run(*arguments, **env):
    command = ["-m", "benchmarks.gpu", *map(str, arguments)]
    return forks.run(command, Path(__file__).parents[1], environment(**env), 500, *forks.TRAINING)


def test_every_part_runs(tmp_path: Path):
    process = run("--toy", "--out", tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["problems"] == []
    assert len(found["cases"]) == 2 * 6 + 3 and {case["model"] for case in found["cases"]} == {"gpt2-tiny", "1m"}
    assert all(case["tokens_per_second"] > 0 and 0 < case["mfu"] < 1 for case in found["cases"])
    assert all(case["micro_batch"] == 2 for case in found["cases"]), "all rows of a step, as reckoned on the CPU"
    assert found["checks"]["1m: torch.compile"] == (
        "not used; a micro-step takes: as it is not measured, compiled not measured"
    )
    ways = [case["what"] for case in found["cases"][-3:]]
    assert ways == ["documents, as chosen", "documents, dense", "documents, groups"]
    assert found["checks"]["1m: attention within documents"] == "dense"  # rows are short
    assert found["checks"]["resume bit for bit"] == "yes"
    assert "toremi over uniform, in turns" in process.stdout
    assert process.stdout == (tmp_path / "gpu.md").read_text()


def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path):
    process = run("--out", tmp_path / "out", CUDA_VISIBLE_DEVICES="")
    assert process.returncode == 1 and not (tmp_path / "out").exists()
    assert process.stderr == "error: torch finds no GPU on this machine; --toy runs on the CPU\n"
