"""The model that training starts from."""

import pytest

from toremi_cli.train.config import TrainConfig
from toremi_cli.train.model import build_model, initializer_range, model_config


def test_narrow_models_start_from_larger_matrices():
    assert initializer_range(768) == initializer_range(1600) == 0.02
    assert initializer_range(192) == pytest.approx(0.04)
    config = TrainConfig(model="tiny")
    model = build_model(config, model_config(config, vocab_size=500, eos_id=0))
    assert float(model.transformer.wte.weight.detach().std()) == pytest.approx(initializer_range(128), rel=0.02)
