"""`toremi eval`: perplexity and bits per byte by domain, several runs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command
from toremi_cli.commands.from_config import Given, with_settings
from toremi_cli.evaluate.config import EvalConfig, FinetuneSettings, check_config
from toremi_cli.settings import filled, to_toml

if TYPE_CHECKING:
    from toremi_cli.evaluate.noise import NoiseReport
    from toremi_cli.evaluate.tasks.of_runs import TaskResult
    from toremi_cli.evaluate.texts import EvalResult
    from toremi_cli.runs.checkpoints import Checkpoint


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "eval", "Stages")
    @with_settings(EvalConfig, FinetuneSettings)
    def eval_(
        given: Given,
        runs: Annotated[
            list[str] | None, typer.Argument(metavar="[RUN…]", help="Names or paths; none: every finished run.")
        ] = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        as_json: Json = False,
        print_config: bool = False,
    ) -> None:
        """Measure runs on held-out text: perplexity and bits per byte.

        By source and by topic, token-weighted. 'macro' is the plain mean over
        sources, 'micro' counts every token alike. The numbers also go to
        runs/NAME/eval.parquet.

        Tasks over local files, with the prompts of lm-evaluation-harness: piqa,
        sciq, arc_easy, arc_challenge, openbookqa, hellaswag, boolq, winogrande,
        copa, lambada, cola, sst2. harness:NAME runs a task of that harness itself
        (pip install 'toremi\\[tasks]'; its data comes from the hub).

        Example: [bold]toremi eval uniform toremi-2[/]

        Example: [bold]toremi eval --tasks piqa,lambada --task-data tasks/[/]

        GLUE by fine-tuning: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, from
        files whose names have the task and train, validation (or dev), with the
        hub's fields.

        Example: [bold]toremi eval --finetune cola,rte --task-data glue/[/]

        Example:
        [bold]toremi eval --finetune sst2 --task-data hf://datasets/nyu-mll/glue[/]

        Planted noise: its topics' weights, how well the weights tell corrupted
        samples (AUROC), and the clean sources' loss.

        Example: [bold]toremi eval uniform toremi-2 --noise[/]
        """
        config = EvalConfig(runs=tuple(runs or ()), **filled(EvalConfig, given))
        tuning = FinetuneSettings(**filled(FinetuneSettings, given))
        check_config(config)
        if print_config:
            typer.echo(to_toml(config, tuning), nl=False)
            return
        from toremi_cli.layout import Workdir as Layout

        place = Layout(workdir)
        if config.noise:
            from toremi_cli.evaluate.noise import noise_reports
            from toremi_cli.runs.run import find_runs

            reports = noise_reports(find_runs(config.runs, place), place, config.split)
            console.print_json([r.to_json() for r in reports]) if as_json else _print_noise(reports, config.split)
        elif config.tasks:
            from toremi_cli.evaluate.tasks.of_runs import evaluate_tasks

            found = evaluate_tasks(config, place)
            console.print_json(found.to_json()) if as_json else _print_tasks(found)
        elif config.finetune:
            from toremi_cli.evaluate.finetune.of_runs import evaluate_glue

            found = evaluate_glue(config, tuning, place)
            console.print_json(found.to_json()) if as_json else _print_tasks(found)
        else:
            from toremi_cli.evaluate.texts import evaluate_runs

            result = evaluate_runs(config, place)
            console.print_json(result.to_json()) if as_json else _print(result)


def _print(result: EvalResult) -> None:
    from toremi_cli.report.terminal import side_by_side
    from toremi_cli.schemas import TOPIC_DOMAIN

    columns = _columns([(s.run, s.checkpoint) for s in result.scores])
    domains = list(dict.fromkeys(d.domain for s in result.scores for d in s.domains))
    ranked = len(columns) > 1 and not result.has_seeds
    for title, metric in (("bits per byte", "bits_per_byte"), ("perplexity", "perplexity")):
        values = [{d.domain: getattr(d, metric) for d in s.domains} for s in result.scores]
        # topics once: of perplexity the sources are enough on a terminal, the table has all
        shown = [name for name in domains if metric != "perplexity" or not name.startswith(TOPIC_DOMAIN)]
        rows = [(name, {c: v[name] for c, v in zip(columns, values, strict=True) if name in v}) for name in shown]
        mark = ranked and (metric != "perplexity" or result.comparable_perplexity)
        for table in side_by_side(title, columns, rows, mark):
            console.out.print(table)
            console.out.print()
    best = ", * the best of a row" if ranked else ""
    if result.has_seeds:
        best = "; none is marked: the best of several seeds is luck, `toremi compare` has their means"
    console.out.print(f"on '{result.suite}', lower is better{best}", style="dim")


def _print_tasks(result: TaskResult) -> None:
    from toremi_cli.report.comparison_table import TableRow
    from toremi_cli.report.terminal import text_table

    columns = _columns([(run, checkpoint) for run, checkpoint, _ in result.scores])
    found = [{(s.task, s.metric): s for s in scores} for _, _, scores in result.scores]
    rows = []
    for key in dict.fromkeys(key for scores in found for key in scores):
        own = [scores[key] for scores in found]
        cells = tuple(f"{s.value:.4g} ±{s.stderr:.2g}" for s in own)
        rows.append(TableRow(f"{key[0]} {key[1]}", cells, (False,) * len(cells)))
    for table in text_table(columns, rows):
        console.out.print(table)
        console.out.print()
    console.out.print("± standard error over the items", markup=False, style="dim")


def _columns(measured: list[tuple[str, Checkpoint]]) -> list[str]:
    several = len({run for run, _ in measured}) < len(measured)
    return [f"{run}@{checkpoint.step}" if several else run for run, checkpoint in measured]


def _print_noise(reports: list[NoiseReport], suite: str) -> None:
    import math

    from toremi_cli.report.comparison_table import TableRow
    from toremi_cli.report.terminal import text_table

    def number(value: float) -> str:
        return "–" if math.isnan(value) else f"{value:.4f}"

    rows = [
        ("policy", [r.policy for r in reports]),
        ("noisy topics", [", ".join(r.noisy_topics) or "none" for r in reports]),
        ("their weight", [number(r.noisy_weight) for r in reports]),
        ("the others' weight", [number(r.clean_weight) for r in reports]),
        ("noise taken, uniform: 1", [number(r.noise_taken) for r in reports]),
        ("AUROC of low weights", [number(r.auroc) for r in reports]),
        ("step of AUROC 0.9", ["never" if r.passed_step is None else f"{r.passed_step:,}" for r in reports]),
        (f"clean bits/byte, '{suite}'", [number(r.clean_bits_per_byte) for r in reports]),
        (f"noisy bits/byte, '{suite}'", [number(r.noisy_bits_per_byte) for r in reports]),
    ]
    table_rows = [TableRow(label, tuple(cells), (False,) * len(cells)) for label, cells in rows]
    for table in text_table([r.run for r in reports], table_rows):
        console.out.print(table)
        console.out.print()
