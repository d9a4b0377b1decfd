"""A corpus whose samples fill a row each, so that `toremi pretrain` and a Trainer can train on the same batches.

As a program it is one rank of a Trainer on that corpus: WORKDIR POLICY OUT BATCH_SIZE ACCUMULATION KIND, where KIND is
a key of `KINDS`; it prints the course.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerFast, TrainingArguments

from tests.realtext import news_articles
from tests.train.smallrun import write_workdir
from toremi_cli.files import write_json
from toremi_cli.integrations.hf_trainer import ReweightingTrainer, StreamedRows, TopicReweighting, read_rows
from toremi_cli.provenance import provenance_of
from toremi_cli.reweight import PolicyConfig, StageSwitch, StratumDraws, make_policy
from toremi_cli.schemas import ANNOTATED
from toremi_cli.tables import MANIFEST, TableReader, write_table
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.model import build_model
from toremi_cli.train.optimizers import build_optimizer
from toremi_cli.train.order import shuffled_order
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


def settings(workdir: Path, policy: str, **changed: Any) -> TrainConfig:
    """Of a short run under a policy."""
    more = {"toremi-2": {"stage_switch": "step:8"}, "odm": {"apply": "both"}}.get(policy, {})
    return replace(_settings(workdir, policy, more), **changed)


def packed_settings(workdir: Path, policy: str) -> TrainConfig:
    """Two samples fill a row; a row is one thing to draw in a Trainer and two here, so weights act on the loss."""
    more = {"stage_switch": "step:8"} if policy == "toremi-2" else {"apply": "loss"}
    config = settings(workdir, policy, context_length=2 * LENGTH, topics="fine", name=f"packed-{policy}")
    return replace(config, policy={"name": policy, **more})


def _settings(workdir: Path, policy: str, more: dict[str, Any]) -> TrainConfig:
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


def packed_rows(cache: Any, pairs: Any, samples: Any) -> list[dict[str, list[int]]]:
    """The same, two to a row, one after the other."""
    found = hf_rows(cache, pairs, samples)
    packed = []
    for first, second in zip(found[::2], found[1::2], strict=True):
        tokens = first["input_ids"] + second["input_ids"][1:]
        topics = [row["topic_ids"][0] for row in (first, second)]
        segments = [0] * (LENGTH + 1) + [1] * LENGTH
        ids = [topics[segment] for segment in segments]
        packed.append({"input_ids": tokens, "labels": tokens, "token_topic_ids": ids, "segment_ids": segments})
    return packed


def streamed(data: list[dict[str, list[int]]], names: list[str], policy: PolicyConfig, key: str) -> StreamedRows:
    """The rows as a stream a topic, drawn and ordered as `RowSampling` draws and orders them."""
    rows = replace(read_rows(data, names), fingerprint=key)
    sampling = TopicReweighting(make_policy(policy, names, rows.policy_data()), rows=rows).sampling
    order = sampling.adaptive.order
    strata = [int(sampling.adaptive.strata.pair_topic[s]) for s in range(len(order.sizes))]  # a topic each

    def epochs(stratum):
        size = int(order.sizes[stratum])
        found = (order._samples(np.full(size, stratum), epoch * size + np.arange(size)) for epoch in range(99))
        return ({k: v for k, v in data[i].items() if k != "topic_ids"} for rows in found for i in rows.tolist())

    streams = {names[topic]: partial(epochs, stratum) for stratum, topic in enumerate(strata)}
    made = StreamedRows(streams, order.sizes.tolist(), topics=names)
    made.node.draws = StratumDraws(order.draws.shares, key, policy.seed, "draws")
    return made


KINDS = ("rows", "packed", "with topics", "streamed")
"""Samples as rows; two samples a row; only the samples with a topic; these as streams."""


def hf_trainer(
    workdir: Path, policy: str, out: Path, batch: int = BATCH, accumulation: int = 1, kind: str = "rows", **more: Any
):
    """The Trainer that does what `toremi pretrain` does on the corpus in `workdir`; `more`: its arguments."""
    config = settings(workdir, policy) if kind == "rows" else settings(workdir, policy, topics="fine")
    config = packed_settings(workdir, policy) if kind == "packed" else config
    cache = open_cache(workdir, workdir / "annotated", workdir / "tokenizer")
    plan = plan_run(config, cache, 1)
    pairs, samples = plan.index.pairs, plan.index.samples
    names = pairs.names
    policy_config = PolicyConfig(**config.policy)
    order = shuffled_order(samples, cache.length, cache.order_key, config.seed)
    taken = order.take(STEPS * BATCH * config.context_length)
    place = {sample: i for i, sample in enumerate(samples.tolist())}
    if kind == "packed":
        data, rows_in_order = packed_rows(cache, pairs, taken), list(range(STEPS * BATCH))
    else:
        data, rows_in_order = hf_rows(cache, pairs, samples), [place[sample] for sample in taken.tolist()]
    if kind in ("with topics", "streamed"):
        data = [row for row in data if row["topic_ids"][0] >= 0]
    whole = read_rows(hf_rows(cache, pairs, samples), names, cache.meta["eos_id"])
    known = whole.policy_data(pairs.crowding)
    rows: Any = replace(read_rows(data, names), fingerprint=cache.order_key) if kind != "streamed" else None
    if kind == "streamed":
        rows = data = streamed(data, names, policy_config, cache.order_key)
    made = make_policy(policy_config, names, known)
    switch = StageSwitch(policy_config.stage_switch, STEPS, policy_config.plateau_threshold)
    model = build_model(config, plan.shape)
    optimizer = build_optimizer(model, config, torch.device("cpu"))
    for group in optimizer.param_groups:
        group["lr"] = plan.schedule.learning_rate
    schedule = LambdaLR(optimizer, lambda step: fraction_of_peak(step, plan.schedule))
    return Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out), max_steps=STEPS, per_device_train_batch_size=batch, use_cpu=True, report_to="none",
            gradient_accumulation_steps=accumulation, max_grad_norm=config.grad_clip, disable_tqdm=True,
            logging_strategy="no", **{"save_strategy": "no", **more},
        ),
        train_dataset=data,
        optimizers=(optimizer, schedule),
        reweighting=TopicReweighting(made, INTERVAL, switch, rows=rows),
        processing_class=PreTrainedTokenizerFast(tokenizer_file=str(config.tokenizer_path / "tokenizer.json")),
        order=rows_in_order,
    )  # fmt: skip


def main() -> None:
    workdir, policy, out, batch, accumulation, kind = sys.argv[1:]
    run = hf_trainer(Path(workdir), policy, Path(out), int(batch), int(accumulation), kind)
    run.train()
    if os.environ.get("RANK", "0") == "0":
        print("RESULT", json.dumps(run.reweighting.history))


if __name__ == "__main__":
    main()
