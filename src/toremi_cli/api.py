"""The stages from Python: settings as dataclasses in, places of tables out.

    from toremi_cli.api import annotate, evaluate, pretrain
    from toremi_cli.evaluate.config import EvalConfig
    from toremi_cli.train.config import TrainConfig

    annotate("corpus/", "toremi-out")
    run = pretrain(TrainConfig(workdir="toremi-out", max_steps=500))
    evaluate(EvalConfig(runs=(run.name,)), "toremi-out")

They do what the commands do by default, and raise `ToremiError` where a command would say one line and end.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.listing import Paths
from toremi_cli.engine import default_workers
from toremi_cli.errors import TrainingError
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.layout import Workdir
from toremi_cli.topics.config import AnnotateConfig, ClusterConfig, EmbedConfig
from toremi_cli.train.config import TrainConfig


def annotate(
    corpus: Paths,
    workdir: str | Path,
    *,
    samples: CorpusConfig | None = None,
    vectors: EmbedConfig | None = None,
    clusters: ClusterConfig | None = None,
    labels: AnnotateConfig | None = None,
    workers: int | None = None,
) -> Path:
    """Find a corpus's topics and label its samples; return the place of table `annotated`.

    Args:
        corpus: a path or several, as `toremi annotate` takes them.
        workdir: folder of all tables; what is up to date there is left alone.
        samples, vectors, clusters, labels: settings of each stage, else its defaults.
        workers: processes of every stage, else as many as there are cores.

    Raises:
        ToremiError: input that can't be read, or settings that can't work.
    """
    from toremi_cli.corpus.stage import build_samples
    from toremi_cli.stage import alone_in
    from toremi_cli.topics.annotate import build_annotated
    from toremi_cli.topics.cluster import build_clusters
    from toremi_cli.topics.embed import build_embeddings

    place, number = Workdir(Path(workdir)), workers or default_workers()
    with alone_in(place):
        build_samples(corpus, place, samples or CorpusConfig(), workers=number)
        build_embeddings(place, replace(vectors or EmbedConfig(), workers=number))
        build_clusters(place, replace(clusters or ClusterConfig(), workers=number))
        build_annotated(place, labels or AnnotateConfig(), workers=number)
    return place.annotated


def pretrain(config: TrainConfig, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train a run; return its folder, which has tables `weights` and `metrics` and the checkpoints.

    Raises:
        ToremiError: settings that can't work, or what stopped the run.
    """
    from toremi_cli.train.start import configure, start_run

    default = TrainConfig()
    given = {f.name: getattr(config, f.name) for f in fields(TrainConfig)}
    given = {name: value for name, value in given.items() if value != getattr(default, name)}
    folder = Workdir(Path(config.workdir)).run(configure(given).run_name)  # a decay is named after its origin
    outcome = start_run(given, resume=resume, overwrite=overwrite)
    if outcome["signal"]:
        raise TrainingError(f"{folder}: stopped by signal {outcome['signal']}; go on with resume=True")
    return folder


def evaluate(config: EvalConfig, workdir: str | Path) -> list[Path]:
    """Measure runs on held-out text; return the table `eval` of each; bare model folders get none.

    Raises:
        ToremiError: no such run or text, or settings that can't work.
    """
    from toremi_cli.evaluate.results import EVAL_FILE
    from toremi_cli.evaluate.texts import evaluate_runs
    from toremi_cli.runs.run import find_runs

    place = Workdir(Path(workdir))
    measured = {scores.run for scores in evaluate_runs(config, place).scores}
    tables = [run.folder / EVAL_FILE for run in find_runs(config.runs, place) if run.name in measured]
    return [table for table in tables if table.is_file()]
