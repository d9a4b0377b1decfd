"""Tables in Markdown and figures of what the grid has come to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
from benchmarks.evidence.figures import write_curves, write_noise_courses
from benchmarks.evidence.grid import Arm, Preset
from benchmarks.evidence.results import Result, baseline_label
from scipy.stats import t

HEAD = """\
# Results of the grid

Written by `python -m benchmarks.evidence --preset {name}`, {date}: `--model {model}`, {tokens} tokens a run,
topic weights every {interval} steps. How it is read stands at the end.
"""
FOOT = """\
## How to read it
Bits per byte of documents of which nothing was in the corpus, of the sources that have enough of them; where there are
none, and where it says so, of the test split, which holds other pieces of documents that were trained on where a source
is a few documents in all. Macro averaged over the sources, micro over bytes; with noise, over those that are clean.
`±` is the standard deviation over seeds; differences are paired by seed, with their 95% t interval (none for one seed).
*Tokens saved*: share of `uniform`'s tokens (same seed) not yet used when its final macro value was reached, linear
between the checkpoints measured, which lie from two fifths of a run on; *never*: it ended above. *Worst domain*: the
largest increase over `uniform` on any clean source of the test split, of the means over seeds. *AUROC*: how well low
weights tell corrupted samples at the end. *Noise taken*: the part of the run that weights gave to noise, over that of
the samples. *Time a token*: median over seeds of the ratio to `uniform`'s; runs beside others, and on shared machines,
differ by several percent for that alone. Learning rates were chosen on the validation split with another seed{tuned}.
"""


def write_report(name: str, preset: Preset, results: list[Result], out: Path, path: Path) -> None:
    """Write the page, and its figures beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = HEAD.format(
        name=name,
        date=date.today(),
        model=preset.model_name,
        tokens=f"{preset.num_tokens / 1e6:.1f}M",
        interval=preset.interval,
    )
    parts = [head]
    for arm in preset.arms:
        own = [result for result in results if result.cell.arm == arm]
        if own:
            parts.append(arm_section(arm, own, path))
    parts.append(FOOT.format(tuned="" if preset.tune else " (not in this preset: all have the same)"))
    path.write_text("\n".join(parts), "utf-8")


def arm_section(arm: Arm, results: list[Result], page: Path) -> str:
    """Table and figures of one arm."""
    title = f"## {arm.corpus}, topics by {arm.topics}, " + (f"{arm.noise:.0%} {arm.kind}" if arm.noise else "clean")
    columns = ["policy", "seeds", "rate", "macro", "less uniform", "tokens saved"]
    columns += ["test split, less uniform", "the same, micro", "worst domain"]
    columns += ["AUROC", "noise taken"] if arm.noise else []
    lines = [title, "", f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.cell.label, []).append(result)
    order = sorted(groups, key=lambda policy: np.mean([macro(r) for r in groups[policy]]))
    base = groups.get(baseline_label(list(groups)), [])
    lines += [f"| {' | '.join(_row(policy, groups[policy], base, arm))} |" for policy in order]
    lines += overhead(groups, base)
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    curves = folder / f"{arm.name}-curves.svg"
    write_curves(groups, curves)
    lines += ["", f"![learning curves]({folder.name}/{curves.name})"]
    if arm.noise:
        courses = folder / f"{arm.name}-noise.svg"
        write_noise_courses(groups, courses)
        lines += ["", f"![weight of the noisy topics]({folder.name}/{courses.name})"]
    return "\n".join([*lines, ""])


def _row(policy: str, own: Sequence[Result], base: Sequence[Result], arm: Arm) -> list[str]:
    row = [f"`{policy}`", str(len(own)), f"{own[0].learning_rate:g}"]
    row += [spread([macro(r) for r in own]), _difference(own, base, macro), _saving(own, base)]
    row += [_difference(own, base, lambda r: r.test.final["macro"])]
    row += [_difference(own, base, lambda r: r.test.final["micro"]), _worst_domain(own, base)]
    if arm.noise:
        row += [_mean(own, lambda r: r.noise.auroc if r.noise else math.nan, ".3f")]
        row += [_mean(own, lambda r: r.noise.noise_taken if r.noise else math.nan, ".2f")]
    return row


def overhead(groups: Mapping[str, Sequence[Result]], base: Sequence[Result]) -> list[str]:
    """A line on what the policies cost: time a token over the baseline's, medians over the seeds they share."""
    speeds = {r.cell.seed: r.tokens_per_second for r in base}
    ratios = {
        policy: [speeds[r.cell.seed] / r.tokens_per_second for r in own if r.cell.seed in speeds]
        for policy, own in groups.items()
        if own is not base
    }
    known = [f"`{policy}` {np.median(values):.2f}" for policy, values in ratios.items() if values]
    return ["", f"Time a token, over `uniform`'s: {', '.join(known)}."] if known else []


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")


def macro(result: Result) -> float:
    """Macro bits per byte of the text that is reported first."""
    return result.headline.final["macro"]


def _difference(own: Sequence[Result], base: Sequence[Result], number: Callable[[Result], float]) -> str:
    partners = {r.cell.seed: number(r) for r in base}
    values = [number(r) - partners[r.cell.seed] for r in own if r.cell.seed in partners]
    if not values or own is base:
        return ""
    if len(values) == 1:
        return f"{values[0]:+.4f}"
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{np.mean(values):+.4f} ({np.mean(values) - half:+.4f} to {np.mean(values) + half:+.4f})"


def _saving(own: Sequence[Result], base: Sequence[Result]) -> str:
    if not base or own is base:
        return ""
    values = [r.saved for r in own]
    reached = [v for v in values if not math.isnan(v)]
    if not reached:
        return "never"
    text = f"{np.mean(reached):.0%}" + (f" ± {np.std(reached, ddof=1):.0%}" if len(reached) > 1 else "")
    return text if len(reached) == len(values) else f"{text} ({len(reached)} of {len(values)} seeds)"


def _worst_domain(own: Sequence[Result], base: Sequence[Result]) -> str:
    seeds = {r.cell.seed for r in own}
    partners = [r for r in base if r.cell.seed in seeds]
    if not partners or own is base:
        return ""
    change = {
        domain: np.mean([r.test.final[domain] for r in own]) / np.mean([r.test.final[domain] for r in partners]) - 1
        for domain in partners[0].test.final
        if domain not in {"macro", "micro"} | own[0].noisy_sources
    }
    worst = max(change, key=lambda domain: change[domain])
    return f"{worst} {change[worst]:+.1%}"


def _mean(own: Sequence[Result], number: Callable[[Result], float], form: str) -> str:
    value = float(np.mean([number(r) for r in own]))
    return "" if math.isnan(value) else format(value, form)
