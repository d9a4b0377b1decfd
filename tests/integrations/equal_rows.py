"""A corpus whose samples fill a row each, so that `toremi pretrain` and a Trainer can train on the same batches.

As a program it is one rank of a Trainer on that corpus: WORKDIR POLICY OUT BATCH_SIZE ACCUMULATION; prints the course.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerFast, TrainingArguments

from tests.realtext import news_articles
from tests.train.smallrun import write_workdir
from toremi_cli.files import write_json
from toremi_cli.integrations.hf_trainer import ReweightingTrainer, TopicReweighting, read_rows
from toremi_cli.provenance import provenance_of
from toremi_cli.reweight import PolicyConfig, StageSwitch, make_policy
from toremi_cli.schemas import ANNOTATED
from toremi_cli.tables import MANIFEST, TableReader, write_table
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.model import build_model
from toremi_cli.train.optimizers import build_optimizer
from toremi_cli.train.order import ShuffledOrder
from toremi_cli.train.run import plan_run
from toremi_cli.train.schedule import fraction_of_peak
from toremi_cli.train.tokens import open_cache

LENGTH = 16
"""Predicted tokens of each sample, its end among them, and of each row."""
STEPS, BATCH, INTERVAL = 16, 6, 4


def write_equal_workdir(root: Path) -> Path:
    """The small corpus, each of its texts cut where it has as many tokens as fill a row."""
    write_workdir(root)
    tokenizer = Tokenizer.from_file(str(root / "tokenizer" / "tokenizer.json"))
    texts = []
    for article in news_articles():
        text = tokenizer.decode(tokenizer.encode(article, add_special_tokens=False).ids[: LENGTH - 1])
        if len(tokenizer.encode(text, add_special_tokens=False).ids) == LENGTH - 1:
            texts.append(text)
    rows = TableReader(root / "annotated", ANNOTATED).read().to_pylist()
    rows = [{**row, "text": text} for row, text in zip(rows, texts, strict=False)]
    assert len(rows) > 60
    for shard in (root / "annotated").glob("*.parquet"):
        shard.unlink()
    provenance = provenance_of(ANNOTATED, "toremi annotate", {"length": LENGTH}, {})
    write_table(root / "annotated" / "part-00000.parquet", ANNOTATED, rows, provenance)
    write_json(root / "annotated" / MANIFEST, {"fingerprint": provenance.fingerprint, "num_shards": 1})
    return root


def settings(workdir: Path, policy: str) -> TrainConfig:
    """Of a short run under a policy."""
    more = {"toremi-2": {"stage_switch": "step:8"}, "odm": {"apply": "both"}}.get(policy, {})
    return TrainConfig(
        policy={"name": policy, **more},
        workdir=str(workdir),
        model=str(workdir / "model.json"),
        name=policy,
        context_length=LENGTH,
        batch_size=BATCH,
        max_steps=STEPS,
        interval=INTERVAL,
        gpus=0,
        topics="labels",
        loss_average="sample",
        eval_samples=3,
        learning_rate=0.01,
        optimizer="adamw",
        precision="fp32",
        quiet=True,
    )


class Trainer(ReweightingTrainer):
    """Where weights act on the loss, its rows come in a given order."""

    def __init__(self, *args: Any, order: list[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order = order

    def _get_train_sampler(self, *args: Any) -> Any:
        return self.order


def hf_rows(cache: Any, pairs: Any, samples: Any) -> list[dict[str, list[int]]]:
    """Training samples as a user would have them: text between two ends of text, and topics."""
    found, eos = [], cache.meta["eos_id"]
    for sample in samples.tolist():
        begin = cache.offset[sample]
        tokens = [eos, *cache.tokens[begin : begin + cache.length[sample]].tolist(), eos]
        topics = pairs.topic[pairs.indptr[sample] : pairs.indptr[sample + 1]].tolist()
        found.append({"input_ids": tokens, "labels": tokens, "topic_ids": topics + [-1] * (2 - len(topics))})
    return found


def hf_trainer(workdir: Path, policy: str, out: Path, batch: int = BATCH, accumulation: int = 1, **arguments: Any):
    """The Trainer that does what `toremi pretrain` does on the corpus in `workdir`."""
    config = settings(workdir, policy)
    cache = open_cache(workdir, workdir / "annotated", workdir / "tokenizer")
    plan = plan_run(config, cache, 1)
    data = hf_rows(cache, plan.pairs, plan.samples)
    rows = replace(read_rows(data, plan.pairs.names, cache.meta["eos_id"]), fingerprint=cache.fingerprint)
    policy_config = PolicyConfig(**config.policy)
    made = make_policy(policy_config, plan.pairs.names, rows.policy_data(plan.pairs.crowding))
    switch = StageSwitch(policy_config.stage_switch, STEPS, policy_config.plateau_threshold)
    model = build_model(config, plan.shape)
    optimizer = build_optimizer(model, config, torch.device("cpu"))
    for group in optimizer.param_groups:
        group["lr"] = plan.schedule.learning_rate
    schedule = LambdaLR(optimizer, lambda step: fraction_of_peak(step, plan.schedule))
    order = ShuffledOrder(plan.samples, plan.num_predicted, cache.fingerprint, config.seed)
    place = {sample: i for i, sample in enumerate(plan.samples.tolist())}
    return Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out), max_steps=STEPS, per_device_train_batch_size=batch, use_cpu=True, report_to="none",
            gradient_accumulation_steps=accumulation, max_grad_norm=config.grad_clip, disable_tqdm=True,
            logging_strategy="no", **{"save_strategy": "no", **arguments},
        ),
        train_dataset=data,
        optimizers=(optimizer, schedule),
        reweighting=TopicReweighting(made, INTERVAL, switch, rows=rows),
        processing_class=PreTrainedTokenizerFast(tokenizer_file=str(config.tokenizer_path / "tokenizer.json")),
        order=[place[sample] for sample in order.take(STEPS * BATCH * LENGTH).tolist()],
    )  # fmt: skip


def main() -> None:
    workdir, policy, out, batch, accumulation = sys.argv[1:]
    run = hf_trainer(Path(workdir), policy, Path(out), int(batch), int(accumulation))
    run.train()
    if os.environ.get("RANK", "0") == "0":
        print("RESULT", json.dumps(run.reweighting.history))


if __name__ == "__main__":
    main()
