"""What each constant and each part of the policy `toremi` is worth: halved, doubled, left out; and when.

    python benchmarks/policy_constants.py WORKDIR --model model.json --seeds 101,102

WORKDIR holds a table `annotated`. Every variant and `uniform` train on it with the same data and seeds; sources whose
names begin with --junk are no clean text. Prints the difference to `uniform` at the same seed, in macro bits per byte
of validation text over the clean sources, the part of `uniform`'s tokens that was saved, and how much worse the clean
source ends that loses most. Finished runs are left alone, so that it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds

CONSTANTS = {"ENOUGH": (0.325, 1.3), "STEEP": (4.0, 16.0), "FLOOR": (0.4, 1.0), "MEMORY": (2.0, 8.0)}
"""Half and double of each; FLOOR is a part of the natural share, 1 at most."""
PARTS = {
    "without n-grams": "T.uses_ngrams = False",
    "without words": "change(lambda s: {'word_gain': torch.full_like(s.word_gain, torch.nan)})",
    "without the model": "T._updated = lambda self, losses, stats, stage: self.weights",
    "natural shares": "P.FLOOR = 1.0; C['w_max'] = 1.0",
    "equal shares alone": "P.STEEP = 0.0",
}
"""What is left out of the rule, as a change of the module before the command runs."""
TIMES = {
    "raised in the first half": "when(lambda part: 0.6 if part < 0.5 else 1.0)",
    "raised in the second half": "when(lambda part: 0.6 if part >= 0.5 else 1.0)",
    "raised in the last quarter": "when(lambda part: 0.6 if part >= 0.75 else 1.0)",
}
"""When small topics are raised: FLOOR by the part of the run that is over. At 1 shares are natural but for trust."""
CHANGE = """
import dataclasses, math, sys, torch
from toremi_cli.reweight.policies import toremi as P
T, C = P.Toremi, {}
before, make = T._updated, T.__init__
def change(of):
    T._updated = lambda self, losses, stats, stage: before(
        self, losses, dataclasses.replace(stats, **of(stats)), stage)
def init(self, config, *rest):
    make(self, dataclasses.replace(config, **C), *rest)
T.__init__ = init
def when(floor_at):
    made, P.FLOOR = T._updated, floor_at(0.0)
    def updated(self, losses, stats, stage):
        equal = P.tempered_shares(self.natural, math.inf, self.data.crowding).numpy()
        low, high = floor_at(stats.step / STEPS) * self.natural, (self.config.w_max * self.natural).clamp_max(1.0)
        self.base = torch.from_numpy(P.shares_between(equal, low.numpy(), high.numpy()))
        return made(self, losses, stats, stage)
    T._updated = updated
"""
ONE_RANK = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
MEASURED = 8
"""Times in a run that held-out text is measured."""


def main() -> None:
    """Train what is missing; print a table."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--only", help="these variants, separated by commas")
    options = parser.parse_args()
    print_table({name: change for name, change in changes() if wanted(name, options.only)}, options)


def arguments(description: str) -> argparse.ArgumentParser:
    """The arguments that `print_table` reads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--model", required=True, help="a shape's name, or a config.json of transformers")
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--context-length", type=int, help="tokens a row; default: the model's")
    parser.add_argument("--seeds", default="101")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--junk", default="junk_", help="how sources that are junk begin")
    return parser


def print_table(variants: Mapping[str, str], options: argparse.Namespace) -> None:
    """Train `uniform`, the rule and its variants, as far as they are missing; a row each, three columns a seed.

    Args:
        variants: name of each, and the Python that makes it.
        options: of `arguments`.
    """
    print("| | " + " | ".join(f"seed {seed} | saved | worst source" for seed in options.seeds.split(",")) + " |")
    print("|---|" + "---:|---:|---:|" * len(options.seeds.split(",")))
    for name, change in {"uniform": "", "toremi": "", **variants}.items():
        cells = [cell(name, change, int(seed), options) for seed in options.seeds.split(",")]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def changes() -> list[tuple[str, str]]:
    """Name of each variant, and the Python that makes it."""
    constants = [(f"{name} {value:g}", f"P.{name} = {value}") for name, values in CONSTANTS.items() for value in values]
    return [*constants, *PARTS.items(), *TIMES.items()]


def wanted(name: str, only: str | None) -> bool:
    """Whether a variant is among those asked for."""
    return only is None or name in only.split(",")


def cell(name: str, change: str, seed: int, options: argparse.Namespace) -> str:
    """A variant's difference to `uniform`, what it saves, and what it costs the source that loses most."""
    folder, base = trained(name, change, seed, options), trained("uniform", "", seed, options)
    course, uniform = curve(folder, options.junk), curve(base, options.junk)
    if name == "uniform":
        return f"{uniform[-1][1]:.3f} | | "
    ours, theirs = (max(by_source(run, options.junk).items())[1] for run in (folder, base))
    worst, source = max((ours[source] / theirs[source] - 1, source) for source in ours)
    return f"{course[-1][1] - uniform[-1][1]:+.3f} | {saved(course, uniform)} | {source} {worst:+.1%}"


def trained(name: str, change: str, seed: int, options: argparse.Namespace) -> Path:
    """The folder of a finished run."""
    run = f"constants-{name.replace(' ', '-')}-s{seed}"
    if not is_finished(options.workdir / "runs" / run):
        policy = "uniform" if name == "uniform" else "toremi"
        settings = ["--model", options.model, "--learning-rate", options.learning_rate]
        settings += ["--context-length", options.context_length] if options.context_length else []
        pretrain(options.workdir, run, policy, seed, options.steps, settings, change)
    return options.workdir / "runs" / run


def is_finished(folder: Path) -> bool:
    """Whether a run has come to its last step."""
    record = folder / "run.json"
    return record.exists() and json.loads(record.read_text("utf-8")).get("status") == "finished"


def pretrain(
    workdir: Path, run: str, policy: str, seed: int, steps: int, settings: Sequence[object], change: str = ""
) -> None:
    """Train in one process, as under torchrun; held-out text is measured `MEASURED` times."""
    arguments = [
        "pretrain", "--workdir", workdir, "--name", run, "--seed", seed, "--topics", "fine", "--policy", policy,
        "--gpus", 0, "--max-steps", steps, "--interval", max(steps // 80, 1), "--batch-size", 8,
        "--warmup-steps", steps // MEASURED, "--eval-every", steps // MEASURED, "--eval-samples", 48, "--quiet",
        *settings,
    ]  # fmt: skip
    call = f"STEPS = {steps}\n{CHANGE}{change}\nfrom toremi_cli.cli import main\n"
    call += "sys.argv = ['toremi', *sys.argv[1:]]\nmain()"
    command = [sys.executable, "-c", call, *map(str, arguments)]
    subprocess.run(command, check=True, env=os.environ | ONE_RANK, stdout=subprocess.DEVNULL)


def curve(folder: Path, junk: str) -> list[tuple[int, float]]:
    """Tokens seen and bits per byte, the mean over the clean sources."""
    return sorted((tokens, float(np.mean([*bits.values()]))) for tokens, bits in by_source(folder, junk).items())


def by_source(folder: Path, junk: str) -> dict[int, dict[str, float]]:
    """Bits per byte of each clean source, by tokens seen."""
    table = ds.dataset(folder / "metrics", exclude_invalid_files=True).to_table().to_pylist()
    found: dict[int, dict[str, float]] = {}
    for row in table:
        domain = row["domain"]
        if row["name"] == "eval_bits_per_byte" and domain not in ("all", "macro") and not domain.startswith(junk):
            found.setdefault(row["tokens_seen"], {})[domain] = row["value"]
    return found


def saved(course: list[tuple[int, float]], uniform: list[tuple[int, float]]) -> str:
    """The part of `uniform`'s tokens that weren't needed for its final value; by a line between two measurements."""
    tokens, bits = np.array(course).T
    end = uniform[-1][1]
    if bits.min() > end:
        return "-"
    after = int(np.flatnonzero(bits <= end)[0])
    reached = np.interp(end, [bits[after], bits[after - 1]], [tokens[after], tokens[after - 1]]) if after else tokens[0]
    return f"{1 - reached / uniform[-1][0]:.0%}"


if __name__ == "__main__":
    main()
