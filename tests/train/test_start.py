import pytest

from toremi_cli.errors import TrainingError
from toremi_cli.runs.record import RUN_FILE
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.folder import check_replaceable
from toremi_cli.train.start import settle


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    return run


def settled(folder, overwrite):
    config = TrainConfig(workdir=str(folder.parents[1]), name=folder.name)
    return settle(config, {}, set(), resume=False, overwrite=overwrite)[1:]


def test_a_run_whose_record_is_damaged_can_be_trained_anew(folder):
    (folder / RUN_FILE).write_text("{")
    with pytest.raises(TrainingError, match="damaged"):
        settled(folder, overwrite=False)
    assert settled(folder, overwrite=True) == (False, None)


def test_a_folder_that_is_no_run_is_not_replaced(folder):
    check_replaceable(folder)
    (folder / "thesis.tex").touch()
    with pytest.raises(TrainingError, match="not a run of toremi; will not delete it"):
        check_replaceable(folder)
