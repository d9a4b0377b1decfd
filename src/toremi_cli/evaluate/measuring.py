"""Texts scored by a checkpoint, on one device or shared between several: each scores its part of the batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from toremi_cli import console
from toremi_cli.engine import default_workers, in_processes
from toremi_cli.errors import UsageError
from toremi_cli.evaluate.config import EvalConfig
from toremi_cli.evaluate.data import EvalSet
from toremi_cli.evaluate.models import load
from toremi_cli.layout import Workdir
from toremi_cli.lm.perplexity import score_samples
from toremi_cli.runs.checkpoints import Checkpoint
from toremi_cli.runs.run import Run

LEAST_BYTES_TO_SHARE = 2**24
"""Of less text than that, starting a process for each GPU takes longer than it saves."""


@dataclass(frozen=True)
class Share:
    """What one process has to score: every `num_ranks`-th batch from number `rank` on."""

    run: Run
    checkpoint: Checkpoint
    workdir: Workdir
    texts: list[str]
    config: EvalConfig
    device: str
    rank: int = 0
    num_ranks: int = 1


@dataclass(frozen=True)
class Measured:
    """Losses of one checkpoint; `nats` and `num_tokens` are (num_texts,)."""

    nats: np.ndarray
    num_tokens: np.ndarray
    tokenizer: str
    """Fingerprint."""
    context_length: int


def measure(run: Run, checkpoint: Checkpoint, texts: EvalSet, config: EvalConfig, workdir: Workdir) -> Measured:
    """Summed losses of a checkpoint over all texts. Devices that share the text change them by rounding only.

    Raises:
        UsageError: no such device, or a stride longer than what the model reads at once.
        TrainingError: the checkpoint can't be loaded.
    """
    devices = devices_of(config, sum(texts.num_bytes))
    whole = Share(run, checkpoint, workdir, texts.texts, config, devices[0])
    if len(devices) == 1:
        return score_share(whole)
    shares = [replace(whole, device=d, rank=r, num_ranks=len(devices)) for r, d in enumerate(devices)]
    found = {}
    with console.progress(f"{run.name} {checkpoint.name}", total=len(shares), unit="shares") as bar:
        for rank, part in in_processes(_score_quietly, shares, len(shares)):
            found[rank] = part
            bar.advance()
    return replace(found[0], nats=np.sum([found[rank].nats for rank in range(len(shares))], axis=0))


def devices_of(config: EvalConfig, num_bytes: int) -> list[str]:
    """The devices to measure that much text on: those named, else every GPU where sharing pays; '': the first."""
    if config.device:
        return config.devices
    gpus = torch.cuda.device_count() if num_bytes >= LEAST_BYTES_TO_SHARE else 0
    return [f"cuda:{number}" for number in range(gpus)] or [""]


def score_share(share: Share) -> Measured:
    """Load the model and score one share; texts that are another's have 0 nats."""
    run, checkpoint, config = share.run, share.checkpoint, share.config
    loaded = load(run, checkpoint, share.workdir, share.device, config.context_length, config.precision)
    if (config.stride or 0) > loaded.context_length:
        raise UsageError(f"--stride {config.stride}: run {run.name} reads {loaded.context_length} tokens at once")
    ids = loaded.encoder.encode(share.texts)
    total = sum(map(len, ids)) / share.num_ranks
    with console.progress(f"{run.name} {checkpoint.name}", total=total, unit="tokens") as bar:
        nats, num_tokens = score_samples(
            loaded.model,
            ids,
            bos_id=loaded.encoder.eos_id,
            context_length=loaded.context_length,
            device=loaded.device,
            batch_tokens=config.batch_tokens,
            stride=config.stride,
            on_progress=bar.advance,
            share=(share.rank, share.num_ranks),
        )
    return Measured(nats.numpy(), num_tokens.numpy(), loaded.encoder.fingerprint, loaded.context_length)


def _score_quietly(share: Share) -> Measured:
    console.set_quiet(True)
    if share.device.startswith("cpu"):
        torch.set_num_threads(max(default_workers() // share.num_ranks, 1))
    return score_share(share)
