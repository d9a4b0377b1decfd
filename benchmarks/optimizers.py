"""What is left of a policy's gain under a better optimizer: `toremi` beside `uniform`, with AdamW and with Muon.

    python -m benchmarks.optimizers WORKDIR --seeds 0,1,2

WORKDIR holds a table `annotated`; sources whose names begin with --junk are no clean text. Prints macro bits per byte
of validation text over the clean sources, and the part of tokens that was saved: by Muon, to AdamW's final value under
`uniform`; by the policy, to that of `uniform` under the same optimizer. Finished runs are left alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.policy_constants import curve, is_finished, pretrain, saved

RATES = {"adamw": ("--learning-rate", 0.004), "muon": ("--learning-rate", 0.004, "--muon-learning-rate", 0.004)}
"""The best of three of each, docs/tables/optimizers.md."""


def main() -> None:
    """Train what is missing; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--policy", default="toremi")
    parser.add_argument("--junk", default="junk_", help="how sources that are junk begin")
    options = parser.parse_args()
    print("| seed | optimizer | `uniform` | saved by the optimizer | difference of the policy | saved by it |")
    print("|---:|---|---:|---:|---:|---:|")
    for seed in map(int, options.seeds.split(",")):
        base: list[tuple[int, float]] = []
        for optimizer in RATES:
            uniform, policy = (
                curve(trained(name, optimizer, seed, options), options.junk) for name in ("uniform", options.policy)
            )
            by_optimizer = saved(uniform, base) if base else ""
            base = base or uniform
            difference = policy[-1][1] - uniform[-1][1]
            row = f"{seed} | {optimizer} | {uniform[-1][1]:.3f} | {by_optimizer} | {difference:+.3f}"
            print(f"| {row} | {saved(policy, uniform)} |", flush=True)


def trained(policy: str, optimizer: str, seed: int, options: argparse.Namespace) -> Path:
    """The folder of a finished run of the preset `1m`."""
    run = f"optimizers-{policy}-{optimizer}-s{seed}"
    if not is_finished(options.workdir / "runs" / run):
        settings = ("--model", "1m", "--context-length", 128, "--optimizer", optimizer, *RATES[optimizer])
        pretrain(options.workdir, run, policy, seed, options.steps, settings)
    return options.workdir / "runs" / run


if __name__ == "__main__":
    main()
