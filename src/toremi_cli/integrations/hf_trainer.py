"""Topic reweighting inside the Hugging Face `Trainer`.

    reweighting = TopicReweighting(make_policy(PolicyConfig(name="toremi-2"), topics), interval=100)
    trainer = ReweightingTrainer(model=model, args=args, train_dataset=rows, reweighting=reweighting)
    trainer.train()

Rows carry their topics as `hf_batch` describes. The step's loss is that of `toremi pretrain`: the mean over the samples
of the global batch, over ranks and accumulation steps, of weight times mean token loss. Weights, stage and interval
under way are saved into each checkpoint and taken up on resume. A runnable example: examples/hf_trainer.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from toremi_cli.integrations.hf_batch import KEYS, BatchTopics, batch_topics
from toremi_cli.integrations.hf_losses import token_losses
from toremi_cli.reweight import (
    IntervalStats,
    Policy,
    StageSwitch,
    TopicStatistics,
    normalizer,
    sample_weights,
    sums_device,
)

STATE_FILE = "toremi_reweighting.json"
MEASURED = frozenset(
    {"loss", "num_samples", "num_segments", "num_tokens", "share", "share_tokens", "token_loss", "shuffled_loss"}
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
    ) -> None:
        """Reweight by `policy` every `interval` optimizer steps.

        Args:
            policy: its topics are the ids of the batches, in order.
            interval: optimizer steps between two updates.
            stage_switch: when stage 2 begins; the default follows `eval_loss` to its plateau.
            on_update: called on every rank with the interval's statistics, the new weights and the stage.

        Raises:
            ValueError: the policy acts on sampling, which is the Trainer's own, or needs what isn't measured here.
        """
        policy.check_measures(MEASURED)
        if policy.config.loss_unit == "byte":
            raise ValueError("loss_unit 'byte' needs the bytes of each sample; batches of a Trainer have tokens only")
        if policy.apply != "loss":
            raise ValueError(
                f"policy {policy.name!r} acts on {policy.apply}, and a Trainer draws its rows itself; "
                'let the weights act on the loss: PolicyConfig(apply="loss")'
            )
        self.policy, self.interval = policy, interval
        self.switch = stage_switch or StageSwitch("plateau", threshold=policy.config.plateau_threshold)
        self.on_update = on_update
        self.history: list[dict[str, Any]] = []
        """Rows of table `weights`, without `tokens_seen`: what `toremi replay` reads, once written to Parquet."""
        self.loss_scale = 1.0
        self._due: int | None = None
        self._place(torch.device("cpu"))

    def _place(self, device: torch.device) -> None:
        self.statistics = TopicStatistics(len(self.policy.topics), sums_device(device), self.policy.topics)
        self.weights = self.policy.weights.to(sums_device(device))

    def loss(
        self, token_losses: Tensor, batch: BatchTopics, step: int, shuffled_losses: Tensor | None = None
    ) -> Tensor:
        """Sum over samples of weight times mean token loss; also takes note of the losses. No wait for the device.

        Args:
            token_losses: (N,) nats of each predicted token, 0 where none is predicted.
            batch: the samples of those tokens.
            step: optimizer steps done.
            shuffled_losses: (N,) nats of other tokens of the same sample under the same predictions, 0 likewise.
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
        shuffled = None
        if shuffled_losses is not None:
            shuffled = shuffled_losses.new_zeros(size).index_add(0, batch.segment, shuffled_losses).to(place)
        counts = is_sample.to(place)
        self.statistics.add(
            sample_loss.detach().to(place),
            counts,
            *pairs,
            sample_tokens=batch.num_tokens.to(place),
            sample_shuffled_nats=shuffled,
            sample_begins=counts,
        )
        factors = sample_weights(self.weights, *pairs, size).to(sample_loss.dtype).to(sample_loss.device)
        if self.policy.sample_level:
            factors = factors * self.policy.sample_factors(sample_loss.detach(), step)
        return self.loss_scale * (factors * sample_loss * is_sample).sum()

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

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Update before the next step."""
        self._update_if_due()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Update after the last step, if it ended an interval."""
        self._update_if_due()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the state into the checkpoint that was just written; every rank must come here."""
        self._update_if_due()
        sums = _summed(self.statistics.buffer.clone())
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            content = {**self.state_dict(), "statistics": sums.cpu().tolist()}
            temporary = folder / f".{STATE_FILE}.tmp"
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.replace(folder / STATE_FILE)

    def _update_if_due(self) -> None:
        if self._due is None:
            return
        step, self._due = self._due, None
        _summed(self.statistics.buffer)
        stats = self.statistics.read(step)
        self.statistics.reset()
        stage = self.policy.stage_of(self.switch.stage_for(step))
        weights = self.policy.update(stats, stage)
        self.weights = weights.to(self.weights.device)
        if self.policy.config.normalize:
            self.loss_scale = normalizer(weights, stats)
        self._remember(stats, weights, stage)
        if self.on_update is not None:
            self.on_update(stats, weights, stage)

    def _remember(self, stats: IntervalStats, weights: Tensor, stage: int) -> None:
        counts = stats.num_samples.tolist()
        measured = {name: getattr(stats, name) for name in ("loss", "num_tokens", "token_loss", "shuffled_loss")}
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
        self.loss_scale, self.history = float(state["loss_scale"]), state["history"]
        self._place(self.statistics.buffer.device)
        sums = torch.tensor(state["statistics"], dtype=torch.float64)
        if sums.shape != self.statistics.buffer.shape:
            raise ValueError(f"{file}: written by another version of toremi; go on with that one, or train anew")
        if is_first_rank:  # it holds what all had gathered; the number of ranks may change
            self.statistics.buffer.copy_(sums)


class ReweightingTrainer(Trainer):
    """A `Trainer` for causal language models whose loss weighs samples by their topics."""

    def __init__(self, *args: Any, reweighting: TopicReweighting, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reweighting = reweighting
        self.add_callback(reweighting)
        # `compute_loss` divides by the samples of the whole global batch itself: nobody may divide again.
        self.model_accepts_loss_kwargs = True

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step, and how many samples the step has over all ranks."""
        batches, _ = super().get_batch_samples(*args, **kwargs)
        device = self.args.device
        count = sum((batch_topics(batch).num_samples.to(device) for batch in batches), torch.zeros((), device=device))
        return batches, _summed(count)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The weighted loss in training; in evaluation the model's own, unweighted."""
        for_model = {key: value for key, value in inputs.items() if key not in KEYS}
        if not model.training:
            return super().compute_loss(model, for_model, return_outputs)
        batch = batch_topics(inputs)
        labels = for_model.pop("labels")
        outputs = model(**for_model)
        losses, shuffled = token_losses(outputs.logits, labels, batch)
        total = self.reweighting.loss(losses, batch, self.state.global_step, shuffled)
        divisor = batch.num_samples if num_items_in_batch is None else num_items_in_batch
        # Data parallelism averages the ranks' gradients, and this is a sum over ranks.
        loss = total * _world_size() / divisor
        return (loss, outputs) if return_outputs else loss

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        kept = [*(self._signature_columns or []), *KEYS]
        self._signature_columns = list(dict.fromkeys(kept))  # type: ignore[assignment]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # Every way of resuming comes here; `_load_from_checkpoint` isn't called under DeepSpeed.
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.reweighting.load(Path(checkpoint), self.args.process_index == 0)


def _summed(values: Tensor) -> Tensor:
    """Sum over the ranks, in place; every rank must come here."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
