"""lm-evaluation-harness itself on our checkpoints: tasks of its registry (data from the hub), or defined locally."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from toremi_cli.errors import MissingExtraError, ToremiError, UsageError, reason
from toremi_cli.evaluate.models import LoadedModel
from toremi_cli.evaluate.tasks.run import TaskScore
from toremi_cli.runs.checkpoints import Checkpoint

PREFIX = "harness:"
PATIENCE_SECONDS = 5.0
"""How long to wait for the hub."""


def run_harness(
    checkpoint: Checkpoint,
    loaded: LoadedModel,
    names: Sequence[str],
    limit: int | None,
    batch_tokens: int,
    folder: str | None = None,
) -> list[TaskScore]:
    """Run tasks of the harness by name: of its registry, or defined by a YAML file of the harness's kind in `folder`.

    Raises:
        MissingExtraError: the harness is not installed.
        UsageError: it doesn't know a task.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        raise MissingExtraError("lm-eval", "tasks", f"--tasks {PREFIX}NAME") from None
    batch_size = max(batch_tokens // loaded.context_length, 1)
    manager, from_registry = _find_tasks(names, folder)
    model = HFLM(
        pretrained=loaded.model,
        tokenizer=str(checkpoint.folder),
        max_length=loaded.context_length,
        batch_size=batch_size,
        device=str(loaded.device),
    )
    hub = cache_only_if_unreachable() if from_registry else nullcontext(True)
    answers = True
    try:
        with redirect_stdout(sys.stderr), hub as answers:  # it prints on stdout, which is for results
            found = lm_eval.simple_evaluate(
                model=model,
                tasks=list(names),
                task_manager=manager,
                limit=limit,
                log_samples=False,
                bootstrap_iters=1000,
            )
    except Exception as problem:  # of the harness, of datasets, of the hub's client: each raises kinds of its own
        cause = "" if answers else "only cached data can be used (the hub does not answer, or offline mode is set); "
        flag = f"--tasks {PREFIX}{','.join(names)}"
        raise ToremiError(f"{flag}: {cause}lm-evaluation-harness says: {reason(problem)}") from problem
    return [score for task, values in found["results"].items() for score in _scores(task, values, found)]


def _find_tasks(names: Sequence[str], folder: str | None) -> tuple[Any, bool]:
    """The harness's task manager that knows all `names`, and whether it needs the harness's registry for them."""
    from lm_eval.tasks import TaskManager

    local = [folder] if folder and Path(folder).is_dir() else []
    # Its registry takes seconds to read: only where the local definitions are not enough.
    for with_registry in (False, True):
        manager = TaskManager(include_path=local, include_defaults=with_registry)
        unknown = [name for name in names if not manager.match_tasks([name])]
        if not unknown:
            return manager, with_registry
    raise UsageError(f"--tasks {PREFIX}{unknown[0]}: neither in the harness's registry nor a YAML in --task-data")


def _scores(task: str, values: dict[str, Any], found: dict[str, Any]) -> list[TaskScore]:
    """'acc,none' with 'acc_stderr,none' as scores; its names are kept, so that they aren't taken for ours."""
    num_items = int(found.get("n-samples", {}).get(task, {}).get("effective", 0))
    scores = []
    for key, value in values.items():
        metric, _, kind = key.partition(",")
        if isinstance(value, int | float) and kind and not metric.endswith("_stderr"):
            stderr = values.get(f"{metric}_stderr,{kind}")
            error = float(stderr) if isinstance(stderr, int | float) else math.nan
            scores.append(TaskScore(PREFIX + task, metric, float(value), error, num_items, 0, 0))
    return scores


@contextmanager
def cache_only_if_unreachable() -> Iterator[bool]:
    """Within this, `datasets` and `huggingface_hub` read only their caches, if the hub does not answer.

    They retry each request five times, with growing pauses, which takes a minute for each file that a task needs.

    Yields:
        Whether the hub answered (False also where offline mode was set before: it isn't asked).
    """
    import datasets.config
    from huggingface_hub import constants

    if constants.is_offline_mode():
        yield False
        return
    answers = hub_answers(constants.ENDPOINT)
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not answers:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield answers
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def hub_answers(endpoint: str) -> bool:
    """Whether anything, an error page included, answers at a URL within PATIENCE_SECONDS; proxies are honoured."""
    try:
        urlopen(Request(endpoint, method="HEAD"), timeout=PATIENCE_SECONDS).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True
