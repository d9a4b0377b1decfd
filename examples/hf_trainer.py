"""Topic reweighting in the Hugging Face Trainer: a byte-level GPT-2 on text of four kinds that every install holds.

    python examples/hf_trainer.py --policy toremi-2 --steps 60 --out /tmp/hf-run

Five things are toremi's: `topic_ids` in each row, `read_rows`, a policy, `TopicReweighting`, and `ReweightingTrainer`
in place of `Trainer`. Weights act as the policy was made to: `toremi` draws the rows, `toremi-2` weighs the loss. At
the end it prints the topics' weights and writes their course as a `weights` table, so that `toremi replay` can check
it:

    toremi replay /tmp/hf-run/weights.parquet --policy toremi-2 --set stage_switch=step:40 -o again.parquet
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from texts import CONTEXT_BYTES, TOPICS, texts
from toremi_cli.integrations.hf_trainer import ReweightingTrainer, TopicReweighting, read_rows
from toremi_cli.provenance import provenance_of
from toremi_cli.reweight import POLICIES, PolicyConfig, StageSwitch, make_policy
from toremi_cli.schemas import WEIGHTS
from toremi_cli.tables import write_table


def rows() -> list[dict[str, list[int]]]:
    """Rows of bytes as tokens; each is one sample of one topic."""
    made = []
    for topic, text in enumerate(texts().values()):
        data = list(text.encode())[: 800 * CONTEXT_BYTES]
        for start in range(0, len(data) - CONTEXT_BYTES, CONTEXT_BYTES):
            tokens = data[start : start + CONTEXT_BYTES]
            made.append({"input_ids": tokens, "labels": tokens, "topic_ids": [topic]})
    return made


def main() -> None:
    """Train, print the weights, write their course."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="toremi-2", choices=POLICIES)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("hf-run"))
    options = parser.parse_args()

    data = rows()
    known = read_rows(data, TOPICS)
    try:
        policy = make_policy(PolicyConfig(name=options.policy), TOPICS, known.policy_data())
        switch = StageSwitch(f"step:{options.steps * 2 // 3}")
        reweighting = TopicReweighting(policy, interval=10, stage_switch=switch, rows=known)
    except ValueError as problem:
        parser.error(f"--policy {options.policy}: {problem}")

    torch.manual_seed(0)
    shape = GPT2Config(vocab_size=256, n_positions=CONTEXT_BYTES, n_embd=64, n_layer=2, n_head=4, eos_token_id=0)
    arguments = TrainingArguments(
        output_dir=str(options.out),
        max_steps=options.steps,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        logging_steps=20,
        save_steps=max(options.steps // 2, 1),
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )
    model = GPT2LMHeadModel(shape)
    ReweightingTrainer(model=model, args=arguments, train_dataset=data, reweighting=reweighting).train()

    for topic, weight in zip(policy.topics, policy.weights.tolist(), strict=True):
        print(f"{topic:10}{weight:8.4f}")
    course = [{"tokens_seen": row["step"] * 16 * CONTEXT_BYTES, **row} for row in reweighting.history]
    provenance = provenance_of(WEIGHTS, "examples/hf_trainer.py", {"policy": options.policy}, {})
    write_table(options.out / "weights.parquet", WEIGHTS, course, provenance)


if __name__ == "__main__":
    main()
