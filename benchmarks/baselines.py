"""What the default shape, optimizer and schedule are worth: four setups on the same tokens in the same order.

    OMP_NUM_THREADS=1 python -m benchmarks.baselines WORKDIR --seeds 0,1 --figure docs/tables/baselines.svg

WORKDIR holds a table `annotated`; sources whose names begin with --junk are no clean text. Trains each of `SETUPS`
under `uniform`. Prints the final macro bits per byte of validation text over the clean sources, and the part of the
first setup's tokens that wasn't needed to come to its final value; draws the curves. Finished runs are left alone.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from benchmarks.optimizers import RATES
from benchmarks.policy_constants import curve, is_finished, pretrain, saved
from matplotlib.figure import Figure

from toremi_cli.report.figures import write_image
from toremi_cli.report.style import COLOURS, RC, label_ends

Courses = dict[str, dict[int, list[tuple[int, float]]]]
"""By setup and seed: tokens seen and bits per byte."""


@dataclass(frozen=True)
class Setup:
    """What a model is trained with, at the rates of `RATES`."""

    model: str
    optimizer: str
    schedule: str

    @property
    def name(self) -> str:
        """As the table and the figure call it."""
        return f"{self.model}, {self.optimizer}, {self.schedule}"

    def run(self, seed: int) -> str:
        """Name of its run."""
        return f"baselines-{self.model}-{self.optimizer}-{self.schedule}-s{seed}"


SETUPS = (
    Setup("gpt2-tiny", "adamw", "cosine"),
    Setup("1m", "adamw", "cosine"),
    Setup("1m", "muon", "cosine"),
    Setup("1m", "muon", "wsd"),
)
"""The first is what the others are held against."""
DRAWN_FROM = 0.2
"""Part of the run that the figure leaves out: curves fall too steeply there to be told apart later."""


def main() -> None:
    """Train what is missing; print the table; draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--junk", default="junk_", help="how sources that are junk begin")
    parser.add_argument("--figure", type=Path, help="an SVG")
    parser.add_argument("--finished", action="store_true", help="train nothing: take the runs that are there")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    courses: Courses = {setup.name: {} for setup in SETUPS}
    for setup, seed in itertools.product(SETUPS, seeds):
        folder = options.workdir / "runs" / setup.run(seed)
        if not is_finished(folder) and not options.finished:
            train(setup, seed, options.workdir, options.steps)
        if is_finished(folder):
            courses[setup.name][seed] = curve(folder, options.junk)
    print("\n".join(table(courses, seeds)))
    if options.figure:
        draw(courses, options.figure)


def train(setup: Setup, seed: int, workdir: Path, steps: int) -> None:
    """Train one run."""
    settings = (
        "--model", setup.model, "--optimizer", setup.optimizer, "--schedule", setup.schedule,
        "--context-length", 128, "--interval", 10, *RATES[setup.optimizer],
    )  # fmt: skip
    pretrain(workdir, setup.run(seed), "uniform", seed, steps, settings)


def table(courses: Courses, seeds: Sequence[int]) -> list[str]:
    """Lines of a table: a row a setup, for each seed its final value and the tokens saved against the first setup."""
    first, *_ = courses.values()
    lines = [
        "| model, optimizer, schedule | " + " | ".join(f"seed {seed} | tokens saved" for seed in seeds) + " |",
        "|---|" + "---:|---:|" * len(seeds),
    ]
    for name, own in courses.items():
        cells = []
        for seed in seeds:
            compares = own is not first and seed in own and seed in first
            cells.append(f"{own[seed][-1][1]:.3f}" if seed in own else "")
            cells.append(saved(own[seed], first[seed]) if compares else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def draw(courses: Courses, path: Path) -> None:
    """Bits per byte over tokens: the mean over the seeds as a line, a thin line for each seed."""
    drawn = {name: list(own.values()) for name, own in courses.items() if own}
    with mpl.rc_context(RC):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes, ends = figure.add_subplot(), []
        for (name, own), colour in zip(drawn.items(), COLOURS, strict=False):
            points = np.array(own)  # (seeds, measurements, 2)
            points = points[:, points[0, :, 0] >= DRAWN_FROM * points[0, -1, 0]]
            tokens, values = points[0, :, 0] / 1e6, points[:, :, 1]
            axes.plot(tokens, values.T, color=colour, lw=0.6, alpha=0.5)
            axes.plot(tokens, values.mean(axis=0), color=colour)
            ends.append((float(values[:, -1].mean()), name, colour))
        axes.set(xlabel="million tokens", ylabel="bits per byte")
        axes.set_title("Macro average of validation text: mean and seeds")
        axes.margins(x=0.0)
        figure.draw_without_rendering()
        label_ends(axes, ends)
        write_image(figure, path, "svg")


if __name__ == "__main__":
    main()
