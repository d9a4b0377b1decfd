"""What the committed runs come to: the tables of README and docs/, from docs/tables/beside-uniform.csv.

    python -m benchmarks.evidence.summary

A table lies between two comments, `<!-- table: NAME -->` and `<!-- end -->`, and is written anew there. Several runs
are shown as their median, then the lowest and the highest.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.evidence.grid import CLEAN, JUNK, NOISE, PRESETS, Arm

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "docs/tables/beside-uniform.csv"
PAGES = ("README.md", "docs/results.md", "docs/tables/policies.md")
TABLE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
Run = Mapping[str, str]

WORDS, CHARACTERS, RANDOM, BOILERPLATE = (
    Arm(noise=NOISE, kind=kind) for kind in ("shuffle-words", "shuffle-chars", "random-tokens", "boilerplate")
)
CORPORA = {
    "real junk, 23% of the text": ("small", JUNK),
    "clean text": ("small", CLEAN),
    "shuffled words, 25%": ("small", WORDS),
    "shuffled characters, 25%": ("small", CHARACTERS),
    "random tokens, 25%": ("small", RANDOM),
    "boilerplate, 25%": ("small", BOILERPLATE),
    "junk, sources as topics": ("small", replace(JUNK, topics="source")),
    "clean, sources as topics": ("small", Arm(topics="source")),
    "junk, ten times the tokens": ("long", JUNK),
    "clean, ten times the tokens": ("long", CLEAN),
    "junk, 8M parameters": ("medium", JUNK),
    "junk, 25M parameters": ("large", JUNK),
    "clean, 25M parameters": ("large", CLEAN),
}
"""Rows of the table of `toremi`: preset and arm."""
IN_README = {
    "23% of the text real junk: logs, menus, minified code, encoded files, tables, mojibake": ("small", JUNK),
    "clean text": ("small", CLEAN),
    "a quarter of the text with its words shuffled": ("small", WORDS),
}
POLICIES = {
    "`toremi`": "toremi",
    "`temperature`": "temperature",
    "`stratified` (equal shares)": "stratified",
    "`odm`, every step": "odm every step",
    "DoReMi, three runs": "doremi",
    "`ado`": "ado",
    "`toremi-1`": "toremi-1",
    "`toremi-2`": "toremi-2",
    "`linupper`": "linupper",
    "`group-dro`": "group-dro",
    "`shuffled-topics`": "shuffled-topics",
    "`random-weights`": "random-weights",
    "*bound*: all junk dropped": "without-junk",
}


def main() -> None:
    """Write each page's tables anew."""
    runs = read_runs()
    for page in PAGES:
        path = ROOT / page
        path.write_text(with_tables(path.read_text("utf-8"), runs), "utf-8")


def read_runs(path: Path = RUNS) -> list[Run]:
    """The runs, a row each, beside `uniform` of the same seed and annotation."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def with_tables(text: str, runs: Sequence[Run]) -> str:
    """A page with its tables as the runs have them."""
    return TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]](runs)}\n{found[4]}", text)


def select(runs: Sequence[Run], policy: str, preset: str, arm: Arm, rate: str = "uniform's") -> list[Run]:
    """The runs of a policy: those at the learning rate of `uniform`, or at the one `searched` for it on validation."""
    size = PRESETS[preset]
    wanted = {"policy": policy, "model": size.model_name, "tokens": str(size.num_tokens), "arm": arm.name}
    own = [run for run in runs if wanted.items() <= run.items()]
    if rate == "searched":
        return [run for run in own if run["rate"] == "searched"]
    return [run for run in own if run["learning_rate"] == run["uniform_learning_rate"]]


def corpora_table(runs: Sequence[Run]) -> str:
    """`toremi` beside `uniform`, a corpus or size of the model a row."""
    head = ("", "runs", "difference", "tokens saved", "by byte", "worst source", "AUROC")
    rows = ((label, select(runs, "toremi", *where)) for label, where in CORPORA.items())
    return _table(
        head,
        (
            (label, str(len(own)), _spread(own, "difference"), saved(own), _spread(own, "test_micro_difference"),
             worst(own), min(run["auroc"] for run in own))
            for label, own in rows if own
        ),
    )  # fmt: skip


def readme_table(runs: Sequence[Run]) -> str:
    """The same in short."""
    head = ("corpus", "runs", "tokens saved by `toremi`", "source that loses most")
    rows = ((label, select(runs, "toremi", *where)) for label, where in IN_README.items())
    return _table(head, ((label, str(len(own)), saved(own), worst(own)) for label, own in rows))


def policies_table(runs: Sequence[Run]) -> str:
    """All policies, with junk and on clean text: at the rate of `uniform`, and where they have one at their own."""
    head = ("", "junk: difference", "at its own rate", "junk drawn")
    head += ("clean: difference", "at its own rate", "by byte", "worst source")
    rows = []
    for label, policy in POLICIES.items():
        (junk, own_junk), (clean, own_clean) = (
            [select(runs, policy, "small", arm, rate) for rate in ("uniform's", "searched")] for arm in (JUNK, CLEAN)
        )
        drawn, by_byte = _spread(junk, "noise_taken", "{:.2f}"), _spread(clean, "test_micro_difference")
        with_junk = (_counted(junk), _at_own_rate(own_junk), drawn)
        rows.append((label, *with_junk, _counted(clean), _at_own_rate(own_clean), by_byte, worst(clean)))
    return _table(head, rows)


TABLES: dict[str, Callable[[Sequence[Run]], str]] = {
    "corpora": corpora_table,
    "readme": readme_table,
    "policies": policies_table,
}


def saved(runs: Sequence[Run]) -> str:
    """Share of `uniform`'s tokens that was not needed; 'never': its final value was not reached."""
    shares = sorted(-math.inf if run["saved"] == "nan" else float(run["saved"]) for run in runs)
    low, mid, high = (_share(share) for share in (shares[0], median(shares), shares[-1]))
    return mid if low == high else f"{mid} ({low} to {high})"


def _share(share: float) -> str:
    return "never" if math.isinf(share) else f"{share:.0%}"


def worst(runs: Sequence[Run]) -> str:
    """The source that loses most in any run, and the interval of its documents; of the test split if need be."""
    known = [run for run in runs if run["worst_source"]]
    if not runs:
        return ""
    if not known:
        return f"{max(float(run['test_worst_source']) for run in runs):+.1%} (test split)"
    run = max(known, key=lambda run: float(run["worst_source"]))
    value, low, high = (f"{float(run[f'worst_{name}']):+.1%}" for name in ("source", "low", "high"))
    return f"{value} ({run['worst_name'].replace('_', ' ')}, {low} to {high})"


def _counted(runs: Sequence[Run]) -> str:
    text = _spread(runs, "difference")
    return f"{text[:-1]}; {len(runs)})" if text.endswith(")") else text


def _at_own_rate(runs: Sequence[Run]) -> str:
    rates = ", ".join(sorted({run["learning_rate"] for run in runs}))
    return f"{rates}: {_counted(runs)}" if runs else ""


def _spread(runs: Sequence[Run], column: str, form: str = "{:+.3f}") -> str:
    if not runs:
        return ""
    values = sorted(float(run[column]) for run in runs)
    low, mid, high = (form.format(value) for value in (values[0], median(values), values[-1]))
    return mid if len(values) == 1 else f"{mid} ({low} to {high})"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join((f"| {' | '.join(head)} |", "|---|" + "---|" * (len(head) - 1), *lines))


if __name__ == "__main__":
    main()
