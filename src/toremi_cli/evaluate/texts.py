"""`toremi eval`: measure checkpoints of runs on held-out text and keep the numbers beside the runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from toremi_cli import console
from toremi_cli.errors import TrainingError
from toremi_cli.evaluate.config import EvalConfig, check_config
from toremi_cli.evaluate.data import EvalSet, corpus_texts, held_out
from toremi_cli.evaluate.measuring import measure
from toremi_cli.evaluate.results import conditions_of, keep_scores
from toremi_cli.evaluate.scores import DomainScore, TextScores, score_domains
from toremi_cli.evaluate.seeds import but_for_the_seed
from toremi_cli.evaluate.seen import why_maybe_seen
from toremi_cli.layout import Workdir
from toremi_cli.runs.checkpoints import Checkpoint, what_is_wrong
from toremi_cli.runs.run import Run, find_runs


@dataclass(frozen=True)
class RunScores:
    """What was measured of one checkpoint."""

    run: str
    checkpoint: Checkpoint
    tokenizer: str
    context_length: int
    domains: list[DomainScore]
    settings: str
    """The same for runs that differ in nothing but their seeds."""


@dataclass
class EvalResult:
    """All numbers of one `toremi eval`."""

    suite: str
    scores: list[RunScores] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader must know to compare the numbers."""

    @property
    def comparable_perplexity(self) -> bool:
        """Whether all runs cut text into the same tokens."""
        return len({s.tokenizer for s in self.scores}) <= 1

    @property
    def has_seeds(self) -> bool:
        """Whether some runs differ in their seed only, so that the best of all is the luckiest one."""
        runs = {s.run: s.settings for s in self.scores}
        return len(set(runs.values())) < len(runs)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "suite": self.suite,
            "perplexity_comparable": self.comparable_perplexity,
            "notes": self.notes,
            "results": [
                {
                    "run": s.run,
                    "checkpoint": s.checkpoint.name,
                    "step": s.checkpoint.step,
                    "context_length": s.context_length,
                    **domain.to_json(),
                }
                for s in self.scores
                for domain in s.domains
            ],
        }


def evaluate_runs(config: EvalConfig, workdir: Workdir) -> EvalResult:
    """Measure every chosen checkpoint; each one's rows are kept as soon as they are there.

    Raises:
        UsageError: settings that can't work, or no such run.
        TrainingError: a run without a whole checkpoint.
        TableError, CorpusError: the text can't be read.
    """
    check_config(config)
    result = EvalResult(suite="")
    chosen = choose_checkpoints(config, workdir, result)
    texts = read_texts(config, workdir)
    result.suite = texts.suite
    if texts.empty_domains:
        _tell(result, f"nothing held out of {', '.join(texts.empty_domains)}: no number for it")
    if not (config.suite or config.data):
        _tell_maybe_seen(result, chosen, texts, workdir)
    for run, checkpoint in chosen:
        found = measure(run, checkpoint, texts, config, workdir)
        scores = TextScores(found.nats, found.num_tokens, np.array(texts.num_bytes, dtype=np.int64))
        domains = score_domains(texts, scores)
        conditions = conditions_of(
            context_length=found.context_length, stride=config.stride, precision=config.recorded_precision
        )
        keep_scores(run, checkpoint, texts, scores, domains, conditions)
        settings = but_for_the_seed(run)
        result.scores.append(RunScores(run.name, checkpoint, found.tokenizer, found.context_length, domains, settings))
    _compare_conditions(result)
    return result


def read_texts(config: EvalConfig, workdir: Workdir) -> EvalSet:
    """The text that the settings name."""
    if config.suite:
        from toremi_cli.evaluate.suites import load_suite, suite_texts

        return suite_texts(load_suite(config.suite))
    if config.data:
        return corpus_texts(config.data, workdir.root)
    return held_out(workdir, config.split, config.topics)


def choose_checkpoints(config: EvalConfig, workdir: Workdir, result: EvalResult) -> list[tuple[Run, Checkpoint]]:
    """Which checkpoints to measure: unfinished runs only if named, damaged checkpoints only if they are alone."""
    chosen = []
    for run in find_runs(config.runs, workdir):
        if run.is_going:
            steps = [c.step for c in run.checkpoints()]
            state = f"run {run.name} is not finished" + (f" (last checkpoint: step {steps[-1]})" if steps else "")
            if not config.runs:
                _tell(result, f"{state}: left out; name it to measure what is there")
                continue
            if steps:
                _tell(result, f"{state}: its numbers are those of a run cut short")
        checkpoints = run.choose(config.checkpoint)
        whole = [c for c in checkpoints if what_is_wrong(c.folder) is None]
        for broken in set(checkpoints) - set(whole) if whole else ():
            _tell(result, f"{broken.folder}: left out ({what_is_wrong(broken.folder)})")
        (whole or checkpoints)[0].check()
        chosen += [(run, c) for c in whole]
    if not chosen:
        raise TrainingError(f"{workdir.root / 'runs'}: no finished run there; name one to measure it as it is")
    return chosen


def _tell_maybe_seen(
    result: EvalResult, chosen: list[tuple[Run, Checkpoint]], texts: EvalSet, workdir: Workdir
) -> None:
    for run in dict.fromkeys(run for run, _ in chosen):
        reason = why_maybe_seen(run, texts, workdir)
        if reason:
            _tell(result, f"run {run.name} may have trained on samples that it is measured on: {reason}")


def _compare_conditions(result: EvalResult) -> None:
    if not result.comparable_perplexity:
        _tell(result, "the runs' tokenizers differ: perplexities are not compared, bits per byte are")
    lengths = sorted({s.context_length for s in result.scores})
    if len(lengths) > 1:
        shown = ", ".join(map(str, lengths))
        _tell(result, f"the runs read {shown} tokens at once; --context-length {lengths[0]} puts them on one footing")


def _tell(result: EvalResult, note: str) -> None:
    result.notes.append(note)
    console.warn(note)
