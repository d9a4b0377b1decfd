"""The model that training starts from."""

import pytest

from toremi_cli.train.config import TrainConfig
from toremi_cli.train.model import build_model, count_parameters, initializer_range, model_config


def test_narrow_models_start_from_larger_matrices():
    assert initializer_range(768) == initializer_range(1600) == 0.02
    assert initializer_range(192) == pytest.approx(0.04)
    config = TrainConfig(model="gpt2-tiny")
    model = build_model(config, model_config(config, vocab_size=500, eos_id=0))
    assert float(model.transformer.wte.weight.detach().std()) == pytest.approx(initializer_range(128), rel=0.02)


@pytest.mark.parametrize("kind", ["OlmoConfig", "Phi3Config", "GPT2Config"])
def test_ids_of_a_config_follow_the_corpus_tokenizer(kind, tmp_path):
    import transformers

    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16, **heads}
    ids = {"pad_token_id": 32000, "eos_token_id": [32000, 32007], "bos_token_id": 1, "sep_token_id": 12}
    getattr(transformers, kind)(**shape, vocab_size=32064, **ids).save_pretrained(tmp_path)
    config = TrainConfig(model=str(tmp_path), context_length=32)
    found = model_config(config, vocab_size=500, eos_id=3)
    assert (found.vocab_size, found.eos_token_id, found.bos_token_id, found.pad_token_id) == (512, 3, 3, None)
    assert getattr(found, "sep_token_id", None) is None
    model = build_model(config, found)
    rows = model.get_input_embeddings().weight.detach()
    assert rows.shape[0] == 512 and bool((rows.abs().sum(1) > 0).all()), "no embedding is kept at zero"
    assert model.generation_config.eos_token_id == 3


@pytest.mark.parametrize(
    ("name", "vocab_size", "millions"),
    [
        *(("1m", 8192, 1.9), ("10m", 8192, 10.1), ("30m", 8192, 28.3), ("60m", 50257, 59.6)),
        *(("124m", 50257, 124.8), ("350m", 50257, 362.9), ("1b", 32000, 1100.1), ("gpt2", 50257, 124.5)),
    ],
)
def test_a_preset_has_the_size_of_its_name(name, vocab_size, millions):
    shape = model_config(TrainConfig(model=name), vocab_size, eos_id=0)
    assert count_parameters(shape) / 1e6 == pytest.approx(millions, abs=0.1)


def test_presets_by_size_are_modern():
    model = build_model(TrainConfig(), model_config(TrainConfig(), vocab_size=500, eos_id=3))
    names = {type(module).__name__ for module in model.modules()}
    assert {"Qwen3RMSNorm", "Qwen3RotaryEmbedding", "Qwen3MLP"} <= names
    attention = model.model.layers[0].self_attn
    assert attention.q_norm.weight.shape == (32,) and attention.k_proj.weight.shape == (32, 96)
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    assert model.generation_config.eos_token_id == 3
