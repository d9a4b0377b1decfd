"""A tiny run of the Hugging Face integration; as a program it prints the weights as JSON, from its first rank."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from tests.realtext import news_articles
from toremi_cli.integrations.hf_trainer import ReweightingTrainer, TopicReweighting
from toremi_cli.reweight import PolicyConfig, StageSwitch, make_policy

TOPICS = ["sport", "war", "rest", "never"]
LENGTH = 32


def rows(count=160):
    """Samples of 8 to 32 bytes, padded, with 0 to 2 topics each."""
    made = []
    for i, article in enumerate(news_articles()[:count]):
        tokens = [min(b, 127) for b in article.encode()[: 8 + i % 25]]
        pad = LENGTH - len(tokens)
        topics = {0: [0, 1], 1: [1, -1], 2: [2, -1], 3: [-1, -1]}[i % 4]
        labels = tokens + [-100] * pad
        made.append({"input_ids": tokens + [0] * pad, "labels": labels, "topic_ids": topics})
    return made


def model():
    torch.manual_seed(1)
    shape = GPT2Config(
        vocab_size=128, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(shape)


def reweighting(**options):
    config = PolicyConfig(name="toremi-2", alpha=3.0, **options)
    return TopicReweighting(make_policy(config, TOPICS), interval=3, stage_switch=StageSwitch("step:6"))


class InOrder(ReweightingTrainer):
    """Takes the rows in their order, so that a test can do the same."""

    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer(out, data=None, batch=4, accumulation=2, **options):
    settings = {"max_steps": 9, "save_strategy": "no", **options.pop("arguments", {})}
    arguments = TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
        optim="sgd", learning_rate=0.5, lr_scheduler_type="constant", max_grad_norm=0.0, report_to="none",
        use_cpu=True, disable_tqdm=True, logging_strategy="no", **settings,
    )  # fmt: skip
    parts = {"train_dataset": data or rows(), "eval_dataset": rows(8)}
    return InOrder(model=model(), args=arguments, reweighting=reweighting(**options), **parts)


def main():
    run = trainer(Path(sys.argv[1]), batch=int(sys.argv[2]), accumulation=int(sys.argv[3]))
    run.train()
    if os.environ.get("RANK", "0") == "0":
        total = sum(p.double().sum().item() for p in run.model.parameters())
        print("RESULT", json.dumps({"history": run.reweighting.history, "parameters": total}))


if __name__ == "__main__":
    main()
