"""Topic reweighting inside the Hugging Face `Trainer`.

    rows = read_rows(dataset, topics)
    policy = make_policy(PolicyConfig(name="toremi"), topics, rows.policy_data())
    reweighting = TopicReweighting(policy, interval=100, rows=rows)
    trainer = ReweightingTrainer(model=model, args=args, train_dataset=dataset, reweighting=reweighting)
    trainer.train()

Rows carry their topics as `hf_batch` describes. The step's loss is that of `toremi pretrain`: the mean over the samples
of the global batch, over ranks and accumulation steps, of weight times mean token loss. Where the policy acts on
sampling, the rows of each step are drawn by its shares, with the draws of `toremi pretrain`. Weights, draws, stage and
interval under way are saved into each checkpoint and taken up on resume. `processing_class=tokenizer`, a fast one, lets
`toremi` know which tokens begin a word. A runnable example: examples/hf_trainer.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, default_data_collator

from toremi_cli.integrations.hf_batch import KEYS, batch_topics
from toremi_cli.integrations.hf_losses import token_losses
from toremi_cli.integrations.hf_reweighting import TopicReweighting, summed
from toremi_cli.integrations.hf_rows import read_rows
from toremi_cli.integrations.hf_streams import StreamedRows
from toremi_cli.lm.words import word_beginnings

__all__ = ["ReweightingTrainer", "StreamedRows", "TopicReweighting", "read_rows"]


class CheckedCollator:
    """A collator whose batches have topics that are there; it runs on the CPU, where looking costs nothing."""

    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]], num_topics: int) -> None:
        self.collator, self.num_topics = collator, num_topics

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        """The batch of some rows.

        Raises:
            ValueError: an id that is no topic's.
        """
        batch = self.collator(rows)
        for key in ("topic_ids", "token_topic_ids"):
            ids = batch.get(key)
            if ids is None or not len(ids):
                continue
            low, high = int(ids.min()), int(ids.max())
            if low < -1 or high >= self.num_topics:
                wrong = low if low < -1 else high
                raise ValueError(f"{key!r} of a batch has {wrong}; expected -1 (none) to {self.num_topics - 1}")
        return batch


class ReweightingTrainer(Trainer):
    """A `Trainer` for causal language models whose loss weighs samples by their topics."""

    def __init__(self, *args: Any, reweighting: TopicReweighting, **kwargs: Any) -> None:
        if len(args) < 3:  # given a tokenizer, Trainer's own choice would pad ids, but neither labels nor topics
            kwargs.setdefault("data_collator", default_data_collator)
        super().__init__(*args, **kwargs)
        self.reweighting = reweighting
        self._beginnings: Tensor | None = None
        self.add_callback(reweighting)
        self.data_collator = CheckedCollator(self.data_collator, len(reweighting.policy.topics))
        if reweighting.sampling is not None:
            reweighting.sampling.check(self.train_dataset)
            self._check_workers()
            self.args.ignore_data_skip = True  # a resumed run goes on with the draws where they stood
        # `compute_loss` divides by the samples of the whole global batch itself: nobody may divide again.
        self.model_accepts_loss_kwargs = True

    def _check_workers(self) -> None:
        if self.args.dataloader_num_workers:
            raise ValueError(
                f"dataloader_num_workers={self.args.dataloader_num_workers}: workers read ahead of the weights that "
                "decide what is drawn; expected 0"
            )

    def get_train_dataloader(self) -> DataLoader:
        """Drawn micro-batches where the policy acts on sampling, else the Trainer's own."""
        sampling = self.reweighting.sampling
        if sampling is None:
            return super().get_train_dataloader()
        arguments = self.args
        place = arguments.process_index, arguments.world_size
        # Not prepared by accelerate, which reads a batch ahead. A generator of its own: none of the model's random
        # numbers is used up.
        return sampling.loader(
            self.train_dataset,
            self._train_batch_size,
            *place,
            self._train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps,
            collate_fn=self._get_collator_with_removed_columns(self.data_collator, description="training"),
            generator=torch.Generator(),
            pin_memory=arguments.dataloader_pin_memory and torch.cuda.is_available(),
        )

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step, and how many samples the step has over all ranks."""
        self.reweighting.update_if_due()  # not at the step's beginning: its rows are drawn by now
        batches, _ = super().get_batch_samples(*args, **kwargs)
        device = self.args.device
        count = sum((batch_topics(batch).num_samples.to(device) for batch in batches), torch.zeros((), device=device))
        return batches, summed(count)

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
        losses, context = token_losses(outputs.logits, labels, batch, self._word_beginnings(outputs.logits))
        total = self.reweighting.loss(losses, batch, self.state.global_step, context)
        divisor = batch.num_samples if num_items_in_batch is None else num_items_in_batch
        # Data parallelism averages the ranks' gradients, and this is a sum over ranks.
        loss = total * _world_size() / divisor
        return (loss, outputs) if return_outputs else loss

    def _word_beginnings(self, logits: Tensor) -> Tensor | None:
        """(vocab,) bool, of a fast tokenizer given as `processing_class`; None without one."""
        tokenizer = getattr(self.processing_class, "backend_tokenizer", None)
        if tokenizer is not None and self._beginnings is None:
            self._beginnings = torch.from_numpy(word_beginnings(tokenizer, logits.shape[-1])).to(logits.device)
        return self._beginnings

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        kept = [*(self._signature_columns or []), *KEYS]
        self._signature_columns = list(dict.fromkeys(kept))  # type: ignore[assignment]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # Every way of resuming comes here; `_load_from_checkpoint` isn't called under DeepSpeed.
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.reweighting.load(Path(checkpoint), self.args.process_index == 0)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
