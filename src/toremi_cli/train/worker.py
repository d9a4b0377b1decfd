"""One rank of a training run: `python -m toremi_cli.train.worker --config FILE`.

Started by `toremi pretrain` through accelerate, or by torchrun or srun.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from toremi_cli import console
from toremi_cli.errors import BusyError, ToremiError, TrainingError, reason
from toremi_cli.provenance import digest
from toremi_cli.runs.record import RUNTIME_FIELDS
from toremi_cli.train import outcome
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.ranks import is_first, is_first_here

PEER_HAS_ENDED = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "Broken pipe")
"""How gloo and NCCL say that a rank they exchange something with is gone."""


def main() -> None:
    """Read the settings, train, report."""
    parser = argparse.ArgumentParser(description="One rank of a toremi training run.")
    parser.add_argument("--config", type=Path, required=True, help="JSON of config, resume, overwrite")
    request = json.loads(parser.parse_args().config.read_text(encoding="utf-8"))
    config = TrainConfig.from_json(request["config"])
    _register()
    try:
        result = run_worker(config, request["resume"], request["overwrite"])
    except Exception as problem:
        leave(problem, config)
    if is_first_here():
        outcome.report(result)


def run_worker(config: TrainConfig, resume: bool, overwrite: bool = False) -> dict[str, Any]:
    """Train as one rank; return the outcome: what happened, the exit code, the summary.

    Raises:
        ToremiError: the run cannot start or go on.
    """
    silence_libraries()
    console.set_quiet(config.quiet or not is_first())
    from toremi_cli.layout import Workdir
    from toremi_cli.locks import lock_beside, locked

    folder = Workdir(Path(config.workdir)).run(config.run_name)
    advice = "it trains this run: let it end, or name another with --name"
    with locked(lock_beside(folder), folder, advice) if is_first() else nullcontext():
        return _train(config, folder, resume, overwrite)


def _train(config: TrainConfig, folder: Path, resume: bool, overwrite: bool) -> dict[str, Any]:
    cache = open_run_cache(config, build=is_first())

    from toremi_cli.files import remove_temporaries_of
    from toremi_cli.runs.record import FINISHED, RUN_FILE, update_run
    from toremi_cli.train.agreement import agree_on_shares
    from toremi_cli.train.announce import announce, note_held_down
    from toremi_cli.train.device import make_accelerator
    from toremi_cli.train.finding import find_out
    from toremi_cli.train.folder import check_replaceable, open_folder
    from toremi_cli.train.loop import train
    from toremi_cli.train.run import assemble
    from toremi_cli.train.state import restore

    accelerator = make_accelerator(config, folder)
    check_same_settings(config, accelerator.device)
    if is_first():
        remove_temporaries_of(folder)
        check_replaceable(folder)
        if not (resume or overwrite) and (folder / RUN_FILE).exists():
            raise BusyError(f"{folder}: another process has begun this run since; name another with --name")
    run, checkpoint = assemble(config, accelerator, cache, resume)
    agree_on_shares(run)
    if checkpoint is not None:
        restore(run, checkpoint)
    find_out(run)
    if run.is_main:
        announce(run)
    started, first_step = time.perf_counter(), run.step
    last_step = run.step if checkpoint is not None and checkpoint.parent == folder else -1
    try:
        received = train(run, partial(open_folder, run, last_step, overwrite))
    finally:
        run.writer.wait()
    summary = _summary(run, first_step, time.perf_counter() - started)
    note_held_down(run)
    if run.owns_folder:
        update_run(folder, status="stopped" if received else FINISHED, result=summary)
    accelerator.end_training()  # not after a failure: it waits for the other ranks
    return {"signal": received, "exit_code": _exit_code(received), "summary": summary if run.is_main else {}}


def _summary(run: Any, first_step: int, seconds: float) -> dict[str, Any]:
    return {
        "run": str(run.folder),
        "checkpoint": str(run.folder / f"checkpoint-{run.step}"),
        "step": run.step,
        "max_steps": run.schedule.max_steps,
        "tokens_seen": run.tokens_seen,
        "train_loss": run.last_train_loss,
        **{f"validation_{name}": value for name, value in run.last_evaluation.items()},
        "tokens_per_second": (run.step - first_step) * run.schedule.batch_tokens / max(seconds, 1e-9),
        "seconds": seconds,
        **{name: run.speed[name] for name in ("mfu", "peak_memory_gib") if name in run.speed},
    }


def check_same_settings(config: TrainConfig, device: Any) -> None:
    """Make sure that all ranks were told to train the same run.

    Raises:
        TrainingError: they were not, as tasks of one srun that were meant to train a run each.
    """
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        return
    settings = {key: value for key, value in config.to_json().items() if key not in RUNTIME_FIELDS}
    mark = float(int(digest(settings, config.run_name)[:12], 16))
    marks = torch.tensor([mark, -mark], dtype=torch.float64, device=device)
    dist.all_reduce(marks, dist.ReduceOp.MAX)
    if float(marks.sum()) != 0:
        raise TrainingError(
            "the ranks have different settings; give all of them the same flags, and start runs that have nothing to "
            "do with each other apart (`srun --ntasks 1`)"
        )


def _exit_code(received: int) -> int:
    return {0: 0, signal.SIGTERM: 0}.get(received, 130)


def open_run_cache(config: TrainConfig, build: bool) -> Any:
    """The token cache of a run's corpus and its index, built first where they are missing (`build`) or waited for."""
    from toremi_cli.train.foreign import open_foreign_cache
    from toremi_cli.train.index_folder import open_index
    from toremi_cli.train.token_table import is_token_table, open_token_table
    from toremi_cli.train.tokens import open_cache

    workdir, tokenizer = Path(config.workdir), config.tokenizer_path
    if config.tokens and is_token_table(config.tokens):
        build = build or is_first_here()  # each machine has its own
        named = tokenizer if config.tokenizer else None
        cache = open_token_table(workdir, config.tokens, named, config.cache_gb, build)
    elif config.tokens:
        cache = open_foreign_cache(workdir, Path(config.tokens), tokenizer, build)
    else:
        cache = open_cache(workdir, config.annotated_path, tokenizer, build)
    open_index(cache, config.topics, build)
    return cache


def silence_libraries() -> None:
    """Their progress bars and warnings are not ours to show."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # nothing is done to the losses in place
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("USE_TORCH_XLA", "0")  # where torch_xla is installed, accelerate would train on a TPU
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _register() -> None:
    """Tell the launcher this rank's process id, and end with the launcher whatever ends it."""
    folder = os.environ.get(outcome.LAUNCH_FOLDER_ENV)
    if not folder:
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the first step: the launcher says that it was interrupted
    (Path(folder) / f"pid-{os.environ.get('LOCAL_RANK', '0')}").write_text(str(os.getpid()))

    def watch() -> None:
        while os.read(0, 1):  # the launcher holds the other end and never writes
            pass
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def leave(problem: Exception, config: TrainConfig) -> NoReturn:
    """Say why this rank has failed, and end it at once.

    The other ranks wait for it in the middle of an exchange and learn of it by its end. An orderly one would wait for
    them first, to take down the process group together.
    """
    message, code = failure(problem, config)
    if config.debug:
        traceback.print_exc()
    elif outcome.LAUNCH_FOLDER_ENV not in os.environ:
        console.error(message)
    outcome.report({"error": message, "exit_code": code})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def failure(problem: Exception, config: TrainConfig) -> tuple[str, int]:
    """One line about it, and the exit code."""
    from toremi_cli.layout import Workdir
    from toremi_cli.runs.checkpoints import how_to_go_on
    from toremi_cli.train.needs import is_out_of_memory, less_memory

    how = how_to_go_on(Workdir(Path(config.workdir)).run(config.run_name))
    if isinstance(problem, OSError) and problem.errno == errno.ENOSPC:
        return f"{problem.filename or 'disk'}: no space left on the device; free some, then {how}", 1
    if is_out_of_memory(problem):
        return f"{reason(problem, 200)}; {how}, with {less_memory(config)}", 1
    if isinstance(problem, ToremiError):
        return str(problem), problem.exit_code
    found = f"{type(problem).__name__}: {reason(problem, 500)}"
    if type(problem).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return f"--compile: {found}; {how}, with --no-compile", 1
    if isinstance(problem, RuntimeError) and any(words in found for words in PEER_HAS_ENDED):
        return f"another rank has ended, its own message says why ({found}); {how}", 1
    return found, 1


if __name__ == "__main__":
    main()
