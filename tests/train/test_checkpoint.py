"""A checkpoint holds the tokenizer, wherever that lies."""

from __future__ import annotations

import shutil

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from toremi_cli.train.checkpoint import save_checkpoint


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
    found = save_checkpoint(
        tmp_path,
        7,
        model=model,
        model_state=None,
        optimizer={"x": torch.ones(1)},
        accumulators={"x": torch.ones(1)},
        state={},
        tokenizer=folder,
        keep=2,
    )
    names = {path.name for path in found.iterdir()}
    assert names >= {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "model.safetensors"}
    assert not names & {"pytorch_model.bin", "doc2vec.model", ".cache", "onnx"}
    assert all(path.stat().st_mode & 0o200 for path in (found, *found.iterdir()))
    assert AutoTokenizer.from_pretrained(found).decode(AutoTokenizer.from_pretrained(found)("a text")["input_ids"])
    assert AutoModelForCausalLM.from_pretrained(found).num_parameters() == model.num_parameters()
