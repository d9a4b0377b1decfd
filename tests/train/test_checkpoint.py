"""A checkpoint holds the tokenizer, wherever that lies."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from toremi_cli.errors import TrainingError
from toremi_cli.evaluate.models import load_model
from toremi_cli.train.checkpoint import (
    Content,
    check_tensors,
    model_tensors,
    optimizer_tensors,
    restore_optimizer,
    shapes_of,
)
from toremi_cli.train.model import load_checkpoint_model
from toremi_cli.train.shards import Shards, part_of, shard_name, write_shard
from toremi_cli.train.writer import CheckpointWriter


def test_of_the_tokenizers_folder_the_tokenizer_alone_is_copied(workdir, tmp_path):
    """Such as a model's folder from the hub: read-only, its weights beside the tokenizer, a cache below it."""
    folder = tmp_path / "downloaded"
    shutil.copytree(workdir / "tokenizer", folder)
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<|endoftext|>"}')
    (folder / "pytorch_model.bin").write_bytes(bytes(1000))
    (folder / "doc2vec.model").write_bytes(bytes(1000))
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / "onnx").mkdir()
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=320, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    found = written(tmp_path, model, {"optimizer/transformer.ln_f.bias/exp_avg": torch.ones(8)}, folder)
    names = {path.name for path in found.iterdir()}
    assert names >= {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "model.safetensors"}
    assert not names & {"pytorch_model.bin", "doc2vec.model", ".cache", "onnx"}
    assert all(path.stat().st_mode & 0o200 for path in (found, *found.iterdir()))
    assert AutoTokenizer.from_pretrained(found).decode(AutoTokenizer.from_pretrained(found)("a text")["input_ids"])
    assert AutoModelForCausalLM.from_pretrained(found).num_parameters() == model.num_parameters()


def small_model(tied=True):
    torch.manual_seed(0)
    shape = {"vocab_size": 320, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 1}
    return GPT2LMHeadModel(GPT2Config(**shape, tie_word_embeddings=tied))


def compiled(module):
    return torch.compile(module, backend="eager")


def save(tmp_path, workdir, model, optimizer, shapes):
    named = dict(optimizer_tensors(model, optimizer))
    check_tensors(tmp_path, 3, dict(model_tensors(model)), named, shapes)
    parts = {f"optimizer/{name}": tensor for name, tensor in named.items()}
    return written(tmp_path, model, parts, workdir / "tokenizer")


def test_what_a_thread_writes_is_what_stood_when_it_was_told(workdir, tmp_path):
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model_tensors(model)}
    writer = CheckpointWriter(in_thread=True, world_size=1, timeout=timedelta(minutes=1))
    content = content_of(tmp_path, model, {"accumulators/x": torch.ones(1)}, workdir / "tokenizer")
    writer.write(content, at_once=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    writer.wait()
    found = dict(load_checkpoint_model(tmp_path / "checkpoint-3", exact=True).named_parameters())
    assert found and all(tensor.equal(before[name]) for name, tensor in found.items())

    (tmp_path / "file").touch()
    writer.write(replace(content, run=tmp_path / "file"), at_once=False)
    with pytest.raises(TrainingError, match=r"file/checkpoint-3: cannot write the checkpoint .* run the same command"):
        writer.write(content, at_once=False)
    writer.wait()


def written(run, model, tensors, tokenizer):
    """A checkpoint of step 3 as the only rank writes it."""
    writer = CheckpointWriter(in_thread=False, world_size=1, timeout=timedelta(minutes=1))
    writer.write(content_of(run, model, tensors, tokenizer), at_once=False)
    return run / "checkpoint-3"


def content_of(run, model, tensors, tokenizer):
    return Content(
        run=run,
        step=3,
        shard=shard_name(0, 1),
        parts={name: part_of(tensor) for name, tensor in tensors.items()},
        model=model,
        model_state=dict(model_tensors(model)),
        state={},
        tokenizer=tokenizer,
        keep=2,
        owns_folder=True,
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "wrappers", [[], [checkpoint_wrapper], [compiled], [checkpoint_wrapper, compiled], [compiled, checkpoint_wrapper]]
)
def test_names_are_those_of_the_bare_model_whatever_wraps_it(workdir, tmp_path, wrappers, tied):
    model = small_model(tied)
    shapes, start = shapes_of(model), {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for index in range(2):
        for wrap in wrappers:
            model.transformer.h[index] = wrap(model.transformer.h[index])
    model(torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
    optimizer.step()
    found = save(tmp_path, workdir, model, optimizer, shapes)

    again = load_checkpoint_model(found, exact=True)
    assert not any(p.equal(start[name]) for name, p in again.named_parameters())
    assert all(p.equal(q) for p, q in zip(again.parameters(), model.parameters(), strict=True))
    fresh = torch.optim.AdamW(again.parameters())
    restore_optimizer(again, fresh, Shards(found, 1))
    for p, q in zip(again.parameters(), model.parameters(), strict=True):
        assert all(fresh.state[p][slot].equal(optimizer.state[q][slot]) for slot in ("exp_avg", "exp_avg_sq", "step"))


def test_what_is_not_the_models_is_not_written(workdir, tmp_path):
    model = small_model()
    shapes, optimizer = shapes_of(model), torch.optim.AdamW(model.parameters())
    model.transformer.h[0] = torch.nn.Sequential(model.transformer.h[0])  # a wrapper that nobody knows
    with pytest.raises(TrainingError, match=r"no checkpoint of step 3: 24 of 40 tensors aren't as the model has them"):
        save(tmp_path, workdir, model, optimizer, shapes)
    assert not list(tmp_path.iterdir())
    model = small_model()
    model.transformer.ln_f.bias = torch.nn.Parameter(torch.zeros(4))
    with pytest.raises(TrainingError, match=r"1 of 28 .* such as transformer.ln_f.bias"):
        save(tmp_path, workdir, model, optimizer, shapes)


def test_what_is_not_the_models_is_not_read(workdir, tmp_path):
    model = small_model()
    found = save(tmp_path, workdir, model, torch.optim.AdamW(model.parameters()), shapes_of(model))
    tensors = load_file(found / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k != "transformer.h.1.ln_1.bias"}, found / "model.safetensors")
    one = "tensors missing (1), such as transformer.h.1.ln_1.bias"
    with pytest.raises(TrainingError, match=re.escape(one)):
        load_checkpoint_model(found)
    with pytest.raises(TrainingError, match=re.escape(one)):
        load_model(found, "AutoModelForCausalLM", "a language model")
    save_file({**tensors, "more": torch.ones(1)}, found / "model.safetensors")
    assert load_checkpoint_model(found) is not None  # a start from elsewhere may hold more
    with pytest.raises(TrainingError, match=r"tensors unexpected \(1\), such as more"):
        load_checkpoint_model(found, exact=True)
    save_file(tensors, found / "model.safetensors")
    (found / "config.json").write_text(json.dumps({**json.loads((found / "config.json").read_text()), "n_embd": 16}))
    with pytest.raises(TrainingError, match="cannot load the model"):
        load_checkpoint_model(found)
    optimizer = torch.optim.AdamW(model.parameters())
    for odd in ({"transformer.h.0.x/exp_avg": torch.ones(1)}, {"transformer.ln_f.bias/exp_avg": torch.ones(4)}):
        write_shard(found / shard_name(0, 1), {f"optimizer/{name}": part_of(tensor) for name, tensor in odd.items()})
        with pytest.raises(TrainingError, match=r"belongs to no tensor|expected \(8,\)"):
            restore_optimizer(model, optimizer, Shards(found, 1))
