"""From an annotated corpus to the Hugging Face Trainer: a policy against uniform, on any architecture.

    toremi annotate corpus/ --vocab-size 2048 --holdout 0.1
    python examples/hf_trainer.py --policy toremi --model examples/llama.json

`rows_of` makes a data set of table `annotated`. Five things more are toremi's: `read_rows`, a policy, what it knows of
the topics, `TopicReweighting`, and `ReweightingTrainer` in place of `Trainer`. Both runs are measured on the same
validation text, by source; --sources leaves out those that are junk.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, PrinterCallback, TrainingArguments

from toremi_cli.integrations.hf_trainer import ReweightingTrainer, TopicReweighting, read_rows
from toremi_cli.layout import Workdir
from toremi_cli.reweight import POLICIES, PolicyConfig, make_policy
from toremi_cli.sample_topics import read_fine_topics

Row = dict[str, list[int]]


def rows_of(samples: list[dict[str, Any]], tokenizer: Any, length: int) -> list[Row]:
    """Rows of `length` tokens, packed of samples of the same topic; what is left of a topic is padded."""
    by_topic = defaultdict[int, list[list[int]]](list)
    for sample in samples:
        tokens = tokenizer(sample["text"])["input_ids"]
        by_topic[sample["topic"]].append([*tokens, tokenizer.eos_token_id])
    rows = []
    for topic, parts in by_topic.items():
        stream = [token for part in parts for token in part]
        segments = [number for number, part in enumerate(parts) for _ in part]
        for start in range(0, len(stream), length):
            tokens = stream[start : start + length]
            pad = length - len(tokens)
            rows.append(
                {
                    "input_ids": tokens + [tokenizer.eos_token_id] * pad,
                    "labels": tokens + [-100] * pad,
                    "token_topic_ids": [topic] * length,
                    "segment_ids": segments[start : start + length] + [-1] * pad,
                }
            )
    return rows


def bits_per_byte(history: list[dict[str, float]], held_out: dict[str, Any]) -> dict[int, float]:
    """The mean over the sources, by step, of a Trainer's log."""
    found = defaultdict[int, list[float]](list)
    for entry in history:
        for source, (nats_to_bits, _) in held_out.items():
            if f"eval_{source}_loss" in entry:
                found[int(entry["step"])].append(entry[f"eval_{source}_loss"] * nats_to_bits)
    return {step: sum(values) / len(values) for step, values in found.items()}


def main() -> None:
    """Train under uniform and under the policy; say what that gained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("toremi-out"))
    parser.add_argument("--model", default=str(Path(__file__).with_name("llama.json")))
    parser.add_argument("--policy", default="toremi", choices=POLICIES)
    parser.add_argument("--sources", default="", help="measured, with commas; all")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("hf-run"))
    options = parser.parse_args()

    place = Workdir(options.workdir)
    columns = ["split", "source", "text", "topic", "num_bytes"]
    table = pyarrow.dataset.dataset(place.annotated, exclude_invalid_files=True).to_table(columns).to_pylist()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(place.tokenizer)
    known = read_fine_topics(place.topics)
    data = rows_of([row for row in table if row["split"] == "train"], tokenizer, options.length)
    rows = read_rows(data, known.names, tokenizer.eos_token_id)

    held_out: dict[str, Any] = {}
    sources = options.sources.split(",") if options.sources else sorted({row["source"] for row in table})
    for source in sources:
        texts = [row for row in table if row["split"] == "validation" and row["source"] == source][:16]
        if texts:
            found = rows_of(texts, tokenizer, options.length)
            predicted = sum(label != -100 for row in found for label in row["labels"][1:])
            held_out[source] = predicted / math.log(2) / sum(row["num_bytes"] for row in texts), found

    size = f"{options.steps} steps of 8 x {options.length} tokens, {len(data):,} rows, {len(known.names)} topics"
    print(f"{options.model}: {size}; twice", flush=True)
    courses: dict[str, dict[int, float]] = {}
    for name in dict.fromkeys(["uniform", options.policy]):
        policy = make_policy(PolicyConfig(name=name), known.names, rows.policy_data(known.crowding))
        torch.manual_seed(0)
        ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        shape = AutoConfig.from_pretrained(options.model, vocab_size=len(tokenizer), **ids)
        arguments = TrainingArguments(
            output_dir=str(options.out / name),
            max_steps=options.steps,
            per_device_train_batch_size=8,
            learning_rate=4e-3,
            lr_scheduler_type="cosine",
            warmup_steps=options.steps // 20,
            eval_strategy="steps",
            eval_steps=max(options.steps // 8, 1),
            per_device_eval_batch_size=32,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = ReweightingTrainer(
            model=AutoModelForCausalLM.from_config(shape),
            args=arguments,
            train_dataset=data,
            eval_dataset={source: found for source, (_, found) in held_out.items()},
            processing_class=tokenizer,
            reweighting=TopicReweighting(policy, max(options.steps // 80, 1), rows=rows),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        courses[name] = bits_per_byte(trainer.state.log_history, held_out)
        print(f"{name:<14}{list(courses[name].values())[-1]:.3f} bits per byte, {len(held_out)} sources", flush=True)

    print(gain(options.policy, courses[options.policy], courses["uniform"]))


def gain(name: str, course: dict[int, float], uniform: dict[int, float]) -> str:
    """What a policy saved: how early it reached what `uniform` ended with, between two measurements by a line."""
    steps, end = list(course), list(uniform.values())[-1]
    below = np.flatnonzero(np.array(list(course.values())) <= end)
    if not len(below):
        return f"{name} has not come to the end of uniform: it is {course[steps[-1]] - end:.3f} bits per byte worse"
    after = int(below[0])
    before = max(after - 1, 0)
    values = [course[steps[after]], course[steps[before]]]
    reached = np.interp(end, values, [steps[after], steps[before]]) if after else steps[0]
    return f"{name} is where uniform ends after {reached:.0f} of {steps[-1]} steps: {1 - reached / steps[-1]:.0%} saved"


if __name__ == "__main__":
    main()
