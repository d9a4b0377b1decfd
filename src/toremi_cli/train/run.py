"""Putting a run together: data, model, optimizer, policy and tables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from toremi_cli.layout import Workdir
from toremi_cli.lm.tokenizer import load_tokenizer
from toremi_cli.lm.words import word_beginnings
from toremi_cli.reweight import Policy, StageSwitch, TopicStatistics, sums_device
from toremi_cli.train.adaptive_sampling import AdaptiveSampling
from toremi_cli.train.attention import attend_without_waiting
from toremi_cli.train.checkpoint import shapes_of
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.device import smallest_gpu_memory
from toremi_cli.train.document_attention import choose_attention
from toremi_cli.train.documents import DENSE
from toremi_cli.train.evaluation import choose_samples, read_texts
from toremi_cli.train.exchange import is_first_there
from toremi_cli.train.found import Found
from toremi_cli.train.growing_table import GrowingTable
from toremi_cli.train.index import SampleIndex
from toremi_cli.train.index_folder import open_index
from toremi_cli.train.loader import BatchBuilder
from toremi_cli.train.model import (
    begin_model,
    context_length_of,
    count_parameters,
    model_config,
)
from toremi_cli.train.optimizers import build_optimizer
from toremi_cli.train.order import shuffled_order
from toremi_cli.train.packing import RowStream
from toremi_cli.train.policy import build_policy
from toremi_cli.train.resuming import find_checkpoint
from toremi_cli.train.schedule import (
    BYTES_PER_PARAMETER,
    Schedule,
    activation_floats,
    count_micro_steps,
    plan_schedule,
)
from toremi_cli.train.sharding import is_sharded
from toremi_cli.train.token_loss import TokenLoss
from toremi_cli.train.tokens import TokenCache
from toremi_cli.train.window import LossWindow
from toremi_cli.train.writer import CheckpointWriter


@dataclass
class Training:
    """Everything that the loop uses."""

    config: TrainConfig
    folder: Path
    accelerator: Accelerator
    cache: TokenCache
    index: SampleIndex
    schedule: Schedule
    builder: BatchBuilder
    sampling: AdaptiveSampling | None
    """None where every sample comes once an epoch."""
    model: nn.Module
    """The transformers model; preparation may have put wrappers into it."""
    shapes: dict[str, torch.Size]
    """Names and shapes of its tensors before that."""
    losses: TokenLoss
    """The model behind its loss."""
    token_loss: nn.Module
    """The same, wrapped for data parallelism."""
    optimizer: torch.optim.Optimizer
    policy: Policy
    switch: StageSwitch
    statistics: TopicStatistics
    window: LossWindow
    eval_samples: np.ndarray
    tokenizer: Path
    writer: CheckpointWriter
    documents_note: str
    """Why attention under `mask_documents` isn't the fastest there is; nothing where it is, or there is none."""
    owns_folder: bool
    """Whether this rank writes what the ranks that see this folder have in common."""
    weights_table: GrowingTable = field(init=False)
    """Set, as the next one, once the run's folder is there: after the first step."""
    metrics_table: GrowingTable = field(init=False)
    loss_weights: Tensor = field(default_factory=lambda: torch.ones(0))
    """(num_topics,) float64 in force on the loss, on the device."""
    stratum_factors: Tensor = field(default_factory=lambda: torch.ones(1))
    """(num_strata,) float64 on the loss, on the device."""
    propensities: Tensor = field(default_factory=lambda: torch.ones(1))
    """(num_strata,) float64 on the statistics, on the device."""
    loss_scale: float = 1.0
    """Factor on the loss that keeps the mean sample weight at 1, where asked for."""
    step: int = 0
    """Optimizer steps done."""
    stage: int = 1
    """Stage of the last update of the weights."""
    stream_state: dict[str, Any] = field(default_factory=dict)
    """Where the data stands after that step."""
    unseen_intervals: list[int] = field(default_factory=list)
    """For how many intervals each topic has not been seen."""
    warned: set[str] = field(default_factory=set)
    """Alarms given already."""
    holdout_loss: Tensor = field(default_factory=lambda: torch.zeros(0))
    """(num_topics,) float64 of the last evaluation; NaN where not measured."""
    last_evaluation: dict[str, float] = field(default_factory=dict)
    last_train_loss: float = float("nan")
    speed: dict[str, float] = field(default_factory=dict)
    """Of the last steps that were logged, by `Clock.read`."""
    found: Found | None = None
    """What was found by trying before the first step, of this process or of the one that it goes on from."""

    @cached_property
    def eval_texts(self) -> list[np.ndarray]:
        """The tokens of each of `eval_samples`; every rank has to ask for them at the same time."""
        return read_texts(self.cache, self.eval_samples, self.device)

    @property
    def is_main(self) -> bool:
        """Whether this rank writes the tables and speaks."""
        return bool(self.accelerator.is_main_process)

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self.accelerator.device

    @property
    def num_parameters(self) -> int:
        """Parameters of the model, tied ones once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def sums_device(self) -> torch.device:
        """Where it keeps float64 sums."""
        return sums_device(self.device)

    @property
    def rank_rows(self) -> int:
        """Rows a step of the rank that has the most."""
        return -(-self.schedule.batch_size // int(self.accelerator.num_processes))

    @property
    def micro_batch(self) -> int:
        """Rows of the largest micro-step."""
        return -(-self.rank_rows // self.schedule.num_micro_steps)

    def part_steps(self, micro_batch: int) -> None:
        """Take micro-steps of so many rows at most from now on.

        Raises:
            UsageError: more of them than a rank has rows.
        """
        count = count_micro_steps(self.schedule.batch_size, int(self.accelerator.num_processes), micro_batch)
        self.schedule = replace(self.schedule, num_micro_steps=count)
        self.builder.part(count)

    @property
    def tokens_seen(self) -> int:
        """Tokens trained on so far, all ranks."""
        return self.step * self.schedule.batch_tokens

    @property
    def remaining_tokens(self) -> int:
        """Tokens still to come, all ranks."""
        return (self.schedule.max_steps - self.step) * self.schedule.batch_tokens

    @property
    def interval_tokens(self) -> int:
        """Tokens of the interval that begins after this step, all ranks."""
        return min(self.schedule.interval * self.schedule.batch_tokens, self.remaining_tokens)


@dataclass(frozen=True)
class Plan:
    """What can be said of a run before its model is built."""

    shape: Any
    """The transformers config."""
    eval_samples: np.ndarray
    """(m,) indices of the validation samples that are evaluated on."""
    index: SampleIndex
    schedule: Schedule
    policy: Policy
    switch: StageSwitch


def plan_run(config: TrainConfig, cache: TokenCache, world_size: int, memory: int = 0, shards: int = 1) -> Plan:
    """Fill in what the config leaves open; a GPU of `memory` bytes (0: none) holds one of the model's `shards`.

    Raises:
        UsageError: settings that do not fit each other or the corpus.
    """
    shape = model_config(config, cache.meta["vocab_size"], cache.meta["eos_id"])
    index = open_index(cache, config.topics)
    eval_samples = choose_samples(cache, config.eval_samples)
    kept = 0
    if memory or config.chunked_loss:
        kept = activation_floats(shape.num_hidden_layers, shape.hidden_size, config.gradient_checkpointing)
    schedule = plan_schedule(
        config,
        context_length_of(config, shape),
        shape.vocab_size,
        int(index.stratum_tokens.sum()),
        world_size,
        kept,
        memory and memory - BYTES_PER_PARAMETER * count_parameters(shape) // shards,
        width=int(getattr(shape, "hidden_size", 0) or 0),
        eval_tokens=int(cache.length[eval_samples].sum()) + len(eval_samples),
    )
    policy, switch = build_policy(config, cache, index, schedule.max_steps)
    return Plan(shape, eval_samples, index, schedule, policy, switch)


def assemble(
    config: TrainConfig, accelerator: Accelerator, cache: TokenCache, resume: bool
) -> tuple[Training, Path | None]:
    """Build a run at its first step; also return the checkpoint to restore it from, if any.

    Raises:
        TrainingError: the checkpoint does not fit the data or is damaged.
        UsageError: settings that do not fit each other.
    """
    device, workdir = accelerator.device, Workdir(Path(config.workdir))
    ranks = accelerator.num_processes
    plan = plan_run(config, cache, ranks, smallest_gpu_memory(device), ranks if is_sharded(accelerator) else 1)
    folder = workdir.run(config.run_name)
    last = find_checkpoint(folder, accelerator, cache, resume, config.decay_from)
    model = begin_model(config, plan.shape, last)
    model.to(device).train()  # from_pretrained leaves dropout off
    shapes = shapes_of(model)
    attend_without_waiting(model)
    documents, documents_note = DENSE, ""
    if config.mask_documents:
        dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
        length = plan.schedule.context_length
        documents, documents_note = choose_attention(model, length, dtype, device, bool(config.compile))
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    beginnings = word_beginnings(load_tokenizer(cache.tokenizer).raw, plan.shape.vocab_size)
    losses = TokenLoss(
        model,
        sensitivity=config.sensitivity,
        chunked=config.chunked_loss,
        mask_documents=config.mask_documents,
        word_beginnings=torch.from_numpy(beginnings).to(device),
    )
    token_loss, optimizer = accelerator.prepare(losses, build_optimizer(model, config, device))
    sampling, topics = _sampling(config, cache, plan), plan.index.pairs.names
    run = Training(
        config=config,
        folder=folder,
        accelerator=accelerator,
        cache=cache,
        index=plan.index,
        schedule=plan.schedule,
        builder=_builder(config, cache, plan, sampling, accelerator, documents),
        sampling=sampling,
        model=model,
        shapes=shapes,
        losses=losses,
        token_loss=token_loss,
        optimizer=optimizer,
        policy=plan.policy,
        switch=plan.switch,
        statistics=TopicStatistics(len(topics), sums_device(device), topics),
        window=LossWindow(config.log_every, sums_device(device)),
        eval_samples=plan.eval_samples,
        tokenizer=cache.tokenizer,
        writer=CheckpointWriter(config.async_checkpoint, ranks, timedelta(minutes=config.rank_timeout)),
        owns_folder=is_first_there(folder.parent, accelerator),
        documents_note=documents_note,
        unseen_intervals=[0] * len(topics),
        holdout_loss=torch.full((len(topics),), torch.nan, dtype=torch.float64),
    )
    if sampling is not None:
        sampling.update(run.policy.weights, run.remaining_tokens, run.interval_tokens)
    elif run.policy.config.normalize:
        run.loss_scale = _first_scale(run)
    put_in_force(run)
    return run, last


def _first_scale(run: Training) -> float:
    """What brings the mean weight to 1 before anything is measured: over the corpus, by what the loss averages over."""
    sizes = run.index.stratum_tokens if run.config.loss_average == "token" else run.index.strata.num_samples
    return float(sizes.sum() / (run.index.strata.weights(run.policy.weights.numpy()) @ sizes))


def put_in_force(run: Training) -> None:
    """Let the policy's weights and the sampling's shares act from the next step on."""
    weights = run.policy.weights
    if run.sampling is None:
        run.loss_weights = weights.to(run.sums_device)
        num_strata = len(run.index.strata.num_samples)
        run.stratum_factors = torch.ones(num_strata, dtype=torch.float64, device=run.sums_device)
        run.propensities = run.stratum_factors
    else:
        run.loss_weights = torch.ones_like(weights, device=run.sums_device)
        run.stratum_factors = run.sampling.loss_factors(weights).to(run.sums_device)
        run.propensities = run.sampling.propensities().to(run.sums_device)


def _sampling(config: TrainConfig, cache: TokenCache, plan: Plan) -> AdaptiveSampling | None:
    if plan.policy.apply == "loss":
        return None
    key = cache.order_key, config.seed
    corrects_loss = plan.policy.apply == "both"
    return AdaptiveSampling(plan.index, cache.length, plan.policy.config, *key, corrects_loss=corrects_loss)


def _builder(
    config: TrainConfig,
    cache: TokenCache,
    plan: Plan,
    sampling: AdaptiveSampling | None,
    accelerator: Accelerator,
    documents: str,
) -> BatchBuilder:
    if sampling is None:
        order = shuffled_order(plan.index.samples, cache.length, cache.order_key, config.seed)
    else:
        order = sampling.order
    return BatchBuilder(
        cache,
        plan.index,
        RowStream(order, plan.schedule.context_length),
        batch_size=plan.schedule.batch_size,
        world_size=accelerator.num_processes,
        rank=accelerator.process_index,
        num_micro_steps=plan.schedule.num_micro_steps,
        packs=accelerator.device.type == "cuda",
        documents=documents,
    )
