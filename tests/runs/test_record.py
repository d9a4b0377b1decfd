from dataclasses import fields

import pytest

from toremi_cli.errors import TrainingError
from toremi_cli.runs.record import RUN_FILE, RUNTIME_FIELDS, read_run, update_run
from toremi_cli.train.config import TrainConfig


def test_facts_are_added_to_a_record(tmp_path):
    assert read_run(tmp_path) is None
    update_run(tmp_path, status="running", step=3)
    update_run(tmp_path, status="finished")
    assert read_run(tmp_path) == {"status": "finished", "step": 3}


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / RUN_FILE).write_text('{"status": ')
    with pytest.raises(TrainingError, match=r"run\.json: damaged .*--overwrite"):
        read_run(tmp_path)


def test_runtime_fields_are_settings_of_a_run():
    assert {field.name for field in fields(TrainConfig)} >= RUNTIME_FIELDS
