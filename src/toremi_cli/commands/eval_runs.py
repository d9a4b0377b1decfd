"""`toremi eval`: perplexity and bits per byte by domain, several runs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from toremi_cli import console
from toremi_cli.commands.common import DEFAULT_WORKDIR, Json, Workdir, command

if TYPE_CHECKING:
    from toremi_cli.evaluate.evaluate import EvalResult
    from toremi_cli.evaluate.noise import NoiseReport
    from toremi_cli.evaluate.tasks.evaluate import TaskResult
    from toremi_cli.runs.checkpoints import Checkpoint


def _tuning(text: str, metavar: str, least: float | None = None) -> Any:
    return typer.Option(help=text, metavar=metavar, min=least, rich_help_panel="Fine-tuning")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "eval", "Stages")
    def eval_(
        runs: Annotated[
            list[str] | None, typer.Argument(metavar="[RUN…]", help="Names or paths; none: every finished run.")
        ] = None,
        workdir: Workdir = DEFAULT_WORKDIR,
        checkpoint: Annotated[str, typer.Option(metavar="last|all|N", help="Which checkpoints of each run.")] = "last",
        split: Annotated[str, typer.Option(metavar="test|validation", help="Held-out split to measure on.")] = "test",
        data: Annotated[
            str, typer.Option(metavar="CORPUS", help="Measure on another corpus; each of its sources is a domain.")
        ] = "",
        suite: Annotated[
            str, typer.Option(metavar="FILE|NAME", help="Measure on a suite of domains (TOML, YAML); 'paloma'.")
        ] = "",
        tasks: Annotated[
            str, typer.Option(metavar="NAME,…", help="Downstream tasks instead: piqa,sciq,… or NAME=FILE.")
        ] = "",
        task_data: Annotated[
            str, typer.Option(metavar="DIR|URL", help="Folder of the tasks' files (jsonl, csv, tsv, parquet).")
        ] = "",
        limit: Annotated[int, typer.Option(min=0, metavar="N", help="Items of each task, at most; 0: all.")] = 0,
        noise: Annotated[
            bool, typer.Option("--noise", help="Judge runs on a table of `toremi corrupt` by its truth instead.")
        ] = False,
        topics: Annotated[
            str, typer.Option(metavar="labels|fine|none", help="Numbers by topic too: by label or fine topic.")
        ] = "labels",
        context_length: Annotated[int, typer.Option(metavar="TOKENS", help="Tokens read at once; 0: as trained.")] = 0,
        stride: Annotated[
            int, typer.Option(metavar="TOKENS", help="Slide the window by so many tokens; 0: disjoint windows.")
        ] = 0,
        batch_tokens: Annotated[int, typer.Option(min=1, metavar="TOKENS", help="Most tokens in a batch.")] = 16384,
        device: Annotated[
            str,
            typer.Option(
                metavar="NAME,…", help="cpu, cuda, cuda:1; several share the text. Default: all GPUs, else the CPU."
            ),
        ] = "",
        precision: Annotated[
            str, typer.Option(metavar="fp32|tf32|bf16", help="What matrices are multiplied in; fp32 is strict.")
        ] = "fp32",
        finetune: Annotated[
            str, _tuning("Fine-tune on GLUE tasks instead: cola, sst2, …, each with train and validation.", "NAME,…")
        ] = "",
        finetune_lr: Annotated[float, _tuning("Peak learning rate; it falls linearly to zero.", "RATE")] = 2e-5,
        finetune_epochs: Annotated[int, _tuning("Passes over the training examples.", "N", 1)] = 3,
        finetune_batch: Annotated[int, _tuning("Examples a step.", "N", 1)] = 32,
        finetune_length: Annotated[int, _tuning("Tokens of an example, at most.", "TOKENS", 8)] = 128,
        finetune_seeds: Annotated[int, _tuning("Fine-tunings of each task; the result is their mean.", "N", 1)] = 1,
        as_json: Json = False,
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
        from toremi_cli import layout
        from toremi_cli.evaluate.config import EvalConfig, check_config
        from toremi_cli.evaluate.evaluate import evaluate_runs
        from toremi_cli.evaluate.tasks.evaluate import evaluate_tasks

        config = EvalConfig(
            runs=tuple(runs or ()),
            checkpoint=checkpoint,
            split=split,
            data=data,
            suite=suite,
            tasks=tasks,
            noise=noise,
            finetune=finetune,
            task_data=task_data,
            limit=limit,
            topics=topics,
            context_length=context_length,
            stride=stride,
            batch_tokens=batch_tokens,
            device=device,
            precision=precision,
        )
        if config.noise:
            from toremi_cli.evaluate.noise import noise_reports
            from toremi_cli.runs.run import find_runs

            check_config(config)
            place = layout.Workdir(workdir)
            reports = noise_reports(find_runs(config.runs, place), place, split)
            console.print_json([r.to_json() for r in reports]) if as_json else _print_noise(reports, split)
            return
        if config.tasks:
            found = evaluate_tasks(config, layout.Workdir(workdir))
            console.print_json(found.to_json()) if as_json else _print_tasks(found)
            return
        if config.finetune:
            from toremi_cli.evaluate.finetune.evaluate import evaluate_glue
            from toremi_cli.evaluate.finetune.train import FinetuneSettings

            settings = FinetuneSettings(finetune_lr, finetune_epochs, finetune_batch, finetune_length, finetune_seeds)
            tuned = evaluate_glue(config, settings, layout.Workdir(workdir))
            console.print_json(tuned.to_json()) if as_json else _print_tasks(tuned)
            return
        result = evaluate_runs(config, layout.Workdir(workdir))
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
        ("AUROC of low weights", [number(r.auroc) for r in reports]),
        ("step of AUROC 0.9", ["never" if r.passed_step is None else f"{r.passed_step:,}" for r in reports]),
        (f"clean bits/byte, '{suite}'", [number(r.clean_bits_per_byte) for r in reports]),
        (f"noisy bits/byte, '{suite}'", [number(r.noisy_bits_per_byte) for r in reports]),
    ]
    table_rows = [TableRow(label, tuple(cells), (False,) * len(cells)) for label, cells in rows]
    for table in text_table([r.run for r in reports], table_rows):
        console.out.print(table)
        console.out.print()
