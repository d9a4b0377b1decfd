"""Runs as the points of a regression from mixtures to losses: the two CSV files that olmix fits.

`ratios.csv` has a row a run: `run`, and the share of each topic or source by its mean weights: the mixture aimed at.
What is drawn differs by the sampling's floor, a tenth of the natural share, and by its limit on repeats.
`metrics.csv` has the same runs with their last validation bits per byte of each source. See
https://github.com/allenai/olmix, "Fitting from CSV data".
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toremi_cli.errors import TableError, UsageError
from toremi_cli.export.shares import mixture_of
from toremi_cli.files import output_folder
from toremi_cli.layout import Workdir
from toremi_cli.runs.history import CURVE, History
from toremi_cli.schemas import ALL_DOMAINS, MACRO

FILES = ("ratios.csv", "metrics.csv")


def write_swarm(histories: Sequence[History], workdir: Workdir, by: str, out: Path) -> dict[str, Any]:
    """Write both files.

    Args:
        histories: of the runs.
        workdir: theirs.
        by: ratios by 'topic' or 'source'.
        out: a folder that is new, empty, or an earlier such export.

    Returns:
        the folder and the token count of each part, which olmix takes as priors.

    Raises:
        UsageError: the folder holds something else.
        TableError: a run was not evaluated, or runs have other topics or sources than the first.
    """
    if out.exists() and {path.name for path in out.iterdir()} - set(FILES):
        raise UsageError(f"{out}: holds other files than {' and '.join(FILES)}; name another folder with --output")
    ratios, metrics, tokens = list[dict[str, Any]](), list[dict[str, Any]](), dict[str, int]()
    for history in histories:
        mixture, _ = mixture_of(history, workdir, "mean")
        courses = {domain: course for (name, domain), course in history.metrics.items() if name == CURVE}
        if not courses:
            raise TableError(f"{history.run.folder}: the run has no validation losses; leave it out")
        tokens = {name: round(part.tokens) for name, part in mixture.parts(by).items()}
        ratios.append({"run": history.name, **mixture.shares(by)})
        means = (ALL_DOMAINS, MACRO)
        last = {f"{domain}_bpb": course.values[-1] for domain, course in courses.items() if domain not in means}
        metrics.append({"run": history.name, **last})
        for rows in (ratios, metrics):
            if odd := sorted(rows[0].keys() ^ rows[-1].keys()):
                raise TableError(
                    f"{history.run.folder}: {rows[0]['run']} and it don't both have {odd[0]!r}; leave one out"
                )
    with output_folder(out) as folder:
        for name, rows in zip(FILES, (ratios, metrics), strict=True):
            with (folder / name).open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    return {"output": str(out), "runs": [row["run"] for row in ratios], "token_counts": tokens}
