"""The options of `toremi pretrain` against the settings that they fill."""

from dataclasses import fields

import pytest
import typer

from toremi_cli.cli import app
from toremi_cli.commands.pretrain import POLICY_FIELDS
from toremi_cli.reweight import PolicyConfig
from toremi_cli.train.config import TrainConfig

OPTIONS = {option.name: option.default for option in typer.main.get_command(app).commands["pretrain"].params}
NO_SETTINGS = {"list_policies", "resume", "overwrite", "dry_run", "as_json", "help"}
DEPENDS = {"topics", "stage_switch"}
"""What these are by default may depend on the policy."""
NAMES = {"compile": "compile_model"}
SETTINGS = {
    **{NAMES.get(field.name, field.name): field.default for field in fields(TrainConfig) if field.name != "policy"},
    **{field.name: field.default for field in fields(PolicyConfig) if field.name in POLICY_FIELDS},
    "policy": PolicyConfig.name,
}


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - DEPENDS))
def test_an_option_has_the_default_of_its_setting(name):
    assert type(SETTINGS[name])(OPTIONS[name]) == SETTINGS[name]


def test_every_option_is_a_setting():
    assert OPTIONS.keys() - NO_SETTINGS == SETTINGS.keys()
