"""A small workdir with real parts: news with topics, a tokenizer trained on it, runs whose models are random."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.bpe import make_tokenizer
from tests.realtext import news_articles
from toremi_cli.provenance import provenance_of
from toremi_cli.schemas import ANNOTATED, TOPICS
from toremi_cli.stage import StageFolder
from toremi_cli.tables import write_table

CONTEXT = 32
SOURCES = ("paper", "radio", "wire")
LABELS = (["Politics"], ["Sports", "People"], [])


def make_annotated(
    workdir: Path,
    num_documents: int = 45,
    held_out_sources: tuple[str, ...] = SOURCES,
    test_documents: Mapping[str, int] | None = None,
) -> None:
    """Tables `annotated` and `topics`: a third of each source is validation, a third test; of some at most so many."""
    rows: list[dict[str, Any]] = []
    left = dict(test_documents or {})
    for number, text in enumerate(news_articles()[:num_documents]):
        source = SOURCES[number % 3]
        split = ("train", "validation", "test")[number // 3 % 3] if source in held_out_sources else "train"
        if split == "test" and source in left:
            split = "test" if left[source] else "train"
            left[source] -= split == "test"
        rows.append(
            {
                "sample_id": f"d{number}#0",
                "doc_id": f"d{number}",
                "source": source,
                "split": split,
                "text": text,
                "num_tokens": len(text.split()),
                "num_bytes": len(text.encode()),
                "topic": number % 3 if number % 3 < 2 else -1,
                "labels": LABELS[number % 3],
                "probs": [0.5, 0.5],
                "agreement": 1.0,
            }
        )
    stage = StageFolder(workdir / "annotated", ANNOTATED, provenance_of(ANNOTATED, "toremi annotate", {}, {}))
    stage.begin()
    with stage.writer(0) as writer:
        writer.write(rows)
    stage.finish(1)
    names = [{"topic": i, "name": n, "words": [n], "labels": [], "label_source": "none"} for i, n in enumerate("ab")]
    zero = {"label_scores": [], "num_samples": 1, "num_tokens": 1, "agreement": 1.0, "sources": []}
    plan = provenance_of(TOPICS, "toremi annotate", {}, {})
    write_table(workdir / "topics.parquet", TOPICS, [{**row, **zero} for row in names], plan)


def make_checkpoint(folder: Path, seed: int, tokenizer: Path | None, vocab_size: int = 448, shard: str = "5GB") -> Path:
    """A checkpoint as the trainer leaves it, its GPT-2 random."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder, max_shard_size=shard)
    if tokenizer is not None:
        for path in tokenizer.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "trainer_state.json").write_text("{}")
    return folder


def make_run(workdir: Path, name: str, seed: int, steps: tuple[int, ...] = (10, 20), finished: bool = True) -> Path:
    """A run's folder with checkpoints at `steps`."""
    run = workdir / "runs" / name
    for step in steps:
        make_checkpoint(run / f"checkpoint-{step}", seed * 1000 + step, workdir / "tokenizer")
    record = {
        "config": {"context_length": CONTEXT, "policy": {"name": name}},
        "status": "finished" if finished else "running",
    }
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(json.dumps(record))
    return run


def make_workdir(root: Path) -> Path:
    """All of it, with the runs `plain` and `topics`."""
    make_tokenizer(root / "tokenizer")
    make_annotated(root)
    make_run(root, "plain", 1)
    make_run(root, "topics", 2)
    return root
