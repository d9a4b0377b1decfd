"""The policy inside a Hugging Face `Trainer`: its statistics, its timetable, and its state in checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import TrainerCallback

from toremi_cli.integrations.hf_batch import BatchTopics
from toremi_cli.integrations.hf_rows import RowTopics
from toremi_cli.integrations.hf_sampling import RowSampling, Sampling
from toremi_cli.integrations.hf_streams import StreamedRows, StreamSampling
from toremi_cli.reweight import (
    IntervalStats,
    MissingNeed,
    Policy,
    StageSwitch,
    TopicStatistics,
    normalizer,
    sample_weights,
    sums_device,
)
from toremi_cli.train.exchange import from_first_rank

STATE_FILE = "toremi_reweighting.json"
MEASURED = frozenset(
    {"loss", "num_samples", "num_segments", "num_tokens", "num_words", "share", "share_tokens", "shuffled_loss"}
    | {"token_loss", "word_gain"}
)
"""What it tells a policy: fields of `IntervalStats`."""


class TopicReweighting(TrainerCallback):
    """The policy, its statistics and its timetable; `ReweightingTrainer` registers it as a callback."""

    def __init__(
        self,
        policy: Policy,
        interval: int = 100,
        stage_switch: StageSwitch | None = None,
        on_update: Callable[[IntervalStats, Tensor, int], None] | None = None,
        rows: RowTopics | StreamedRows | None = None,
    ) -> None:
        """Reweight by `policy` every `interval` optimizer steps.

        Args:
            policy: its topics are the ids of the batches, in order.
            interval: optimizer steps between two updates.
            stage_switch: when stage 2 begins; the default follows `eval_loss` to its plateau.
            on_update: called on every rank with the interval's statistics, the new weights and the stage.
            rows: those of the training data, by `read_rows`, or streams of them; what acts on sampling draws from them.

        Raises:
            ValueError: the policy acts on sampling and there are no rows, or it needs what isn't measured here.
        """
        try:
            policy.check_measures(MEASURED)
        except MissingNeed as problem:
            raise ValueError(
                f"{problem}, which a Trainer doesn't measure; `toremi pretrain` can, or take a policy by losses alone"
            ) from None
        if policy.config.loss_unit == "byte":
            raise ValueError("loss_unit 'byte' needs the bytes of each sample; batches of a Trainer have tokens only")
        if policy.apply != "loss" and rows is None:
            raise ValueError(
                f"policy {policy.name!r} acts on {policy.apply} and draws the rows: give their topics, "
                "rows=read_rows(dataset, topics), or StreamedRows, or let weights act on the loss: "
                'PolicyConfig(apply="loss")'
            )
        if rows is not None and rows.topics != policy.topics:
            raise ValueError(f"the rows are of {len(rows.topics)} other topics than the policy's")
        self.sampling = _sampling(rows, policy) if rows is not None and policy.apply != "loss" else None
        self.policy, self.interval = policy, interval
        self.switch = stage_switch or StageSwitch("plateau", threshold=policy.config.plateau_threshold)
        self.on_update = on_update
        self.history: list[dict[str, Any]] = []
        """Rows of table `weights`, without `tokens_seen`: what `toremi replay` reads, once written to Parquet."""
        self.loss_scale = 1.0
        self._due: int | None = None
        self._is_resumed = False
        self._place(torch.device("cpu"))

    def _place(self, device: torch.device) -> None:
        self.statistics = TopicStatistics(len(self.policy.topics), sums_device(device), self.policy.topics)
        self.weights = self.policy.weights.to(sums_device(device))

    def loss(self, token_losses: Tensor, batch: BatchTopics, step: int, context: Tensor | None = None) -> Tensor:
        """Sum over samples of weight times mean token loss; also takes note of the losses. No wait for the device.

        Args:
            token_losses: (N,) nats of each predicted token, 0 where none is predicted.
            batch: the samples of those tokens.
            step: optimizer steps done.
            context: (3, num_samples) `context_sums` of the samples' tokens.
        """
        place = sums_device(token_losses.device)
        if self.statistics.buffer.device != place:
            sums = self.statistics.buffer
            self._place(token_losses.device)
            self.statistics.buffer.copy_(sums)
        size = batch.num_tokens.shape[0]
        sums = token_losses.new_zeros(size).index_add(0, batch.segment, token_losses)
        sample_loss = sums / batch.num_tokens.clamp_min(1)
        is_sample = (batch.num_tokens > 0).to(sample_loss.dtype)
        pairs = batch.pair_sample.to(place), batch.pair_topic.to(place), batch.pair_prob.to(place)
        observed, drawn = pairs[2], None
        if self.sampling is not None:
            of_row = batch.row.to(place)
            on_loss, on_statistics = (x[of_row] for x in self.sampling.factors(batch.num_rows, place))
            observed, drawn = pairs[2] * on_statistics[pairs[0]], on_loss
        counts = is_sample.to(place)
        self.statistics.add(
            sample_loss.detach().to(place),
            counts,
            *pairs[:2],
            observed,
            sample_tokens=batch.num_tokens.to(place),
            sample_context=None if context is None else context.to(place),
            sample_begins=counts,
        )
        factors = sample_weights(self.weights, *pairs, size) if drawn is None else drawn
        factors = factors.to(sample_loss.dtype).to(sample_loss.device)
        if self.policy.sample_level:
            factors = factors * self.policy.sample_factors(sample_loss.detach(), step)
        return self.loss_scale * (factors * sample_loss * is_sample).sum()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the first shares: only now it is known how long the run is."""
        if self.sampling is not None:
            self._rows_per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            self._max_steps = state.max_steps
            if not self._is_resumed:
                self._resample(self.policy.weights, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note that an interval ended; the update waits for the evaluation of the same step, if there is one."""
        if state.global_step % self.interval == 0:
            self._due = state.global_step

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Let the stage switch see the validation loss."""
        if metrics and "eval_loss" in metrics:
            self.switch.observe(state.global_step, float(metrics["eval_loss"]))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Update after the last step, if it ended an interval."""
        self.update_if_due()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the state into the checkpoint that was just written; every rank must come here."""
        self.update_if_due()
        sums = summed(self.statistics.buffer.clone())
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            content = {**self.state_dict(), "statistics": sums.cpu().tolist()}
            temporary = folder / f".{STATE_FILE}.tmp"
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.replace(folder / STATE_FILE)

    def update_if_due(self) -> None:
        """End the interval, if a step has ended it: before the next step's rows are drawn."""
        if self._due is None:
            return
        step, self._due = self._due, None
        summed(self.statistics.buffer)
        stats = self.statistics.read(step)
        if self.sampling is not None:
            stats = replace(stats, drawn_weights=self.sampling.drawn_weights())
        self.statistics.reset()
        stage = self.policy.stage_of(self.switch.stage_for(step))
        weights = self._agreed(self.policy.update(stats, stage))
        self.weights = weights.to(self.weights.device)
        if self.sampling is not None:
            self._resample(weights, step)
        elif self.policy.config.normalize:
            self.loss_scale = normalizer(weights, stats)
        self._remember(stats, weights, stage)
        if self.on_update is not None:
            self.on_update(stats, weights, stage)

    def _agreed(self, weights: Tensor) -> Tensor:
        """The first rank's weights: a last bit that differs would let the ranks draw different rows."""
        if not _is_distributed():
            return weights
        state = from_first_rank(self.policy.state_dict(), self.statistics.buffer.device)
        self.policy.load_state_dict(state)
        return self.policy.weights.clone()

    def _resample(self, weights: Tensor, step: int) -> None:
        """Draw by new weights from the next step's first row on."""
        assert self.sampling is not None
        remaining = (self._max_steps - step) * self._rows_per_step
        self.sampling.update(weights, remaining, min(self.interval * self._rows_per_step, remaining))
        draws = self.sampling.draws
        if _is_distributed():
            draws.load_state_dict(from_first_rank(draws.state_dict(), self.statistics.buffer.device))
        self.sampling.put_in_force(weights)

    def _remember(self, stats: IntervalStats, weights: Tensor, stage: int) -> None:
        counts = stats.num_samples.tolist()
        context = ("shuffled_loss", "word_gain", "num_words")
        measured = {name: getattr(stats, name) for name in ("loss", "num_tokens", "token_loss", *context)}
        values = {name: column.tolist() for name, column in measured.items() if column is not None}
        for index, (topic, weight) in enumerate(zip(self.policy.topics, weights.tolist(), strict=True)):
            row = {"step": stats.step, "stage": stage, "topic": topic, "weight": weight, "num_samples": counts[index]}
            seen = {name: column[index] if counts[index] else None for name, column in values.items()}
            self.history.append({**row, **seen})

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state, but for the interval under way."""
        return {
            "policy": self.policy.state_dict(),
            "switch": self.switch.state_dict(),
            "loss_scale": self.loss_scale,
            "history": self.history,
            "sampling": None if self.sampling is None else self.sampling.state_dict(),
        }

    def load(self, checkpoint: Path, is_first_rank: bool) -> None:
        """Take up the state in a checkpoint's folder.

        Raises:
            ValueError: the checkpoint has none, or it is of another policy, of other topics or of another version.
        """
        file = checkpoint / STATE_FILE
        if not file.is_file():
            raise ValueError(f"{file}: not there; the checkpoint was not written by a ReweightingTrainer")
        state = json.loads(file.read_text(encoding="utf-8"))
        self.policy.load_state_dict(state["policy"])
        self.switch.load_state_dict(state["switch"])
        if (self.sampling is None) != (state["sampling"] is None):
            raise ValueError(f"{file}: its weights acted on the loss, these act on sampling, or the other way round")
        if self.sampling is not None:
            self.sampling.load_state_dict(state["sampling"])
            self.sampling.put_in_force(self.policy.weights)
            self._is_resumed = True
        self.loss_scale, self.history = float(state["loss_scale"]), state["history"]
        self._place(self.statistics.buffer.device)
        sums = torch.tensor(state["statistics"], dtype=torch.float64)
        if sums.shape != self.statistics.buffer.shape:
            raise ValueError(f"{file}: written by another version of toremi; go on with that one, or train anew")
        if is_first_rank:  # it holds what all had gathered; the number of ranks may change
            self.statistics.buffer.copy_(sums)


def _sampling(rows: RowTopics | StreamedRows, policy: Policy) -> Sampling:
    return StreamSampling(rows, policy) if isinstance(rows, StreamedRows) else RowSampling(rows, policy)


def summed(values: Tensor) -> Tensor:
    """Sum over the ranks, in place; every rank must come here."""
    if _is_distributed():
        dist.all_reduce(values)
    return values


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
