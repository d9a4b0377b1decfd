import pytest

from toremi_cli.errors import TrainingError
from toremi_cli.runs.record import RUN_FILE
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.lock import LOCK_FILE, locked, set_aside
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


def test_a_run_is_deleted_once_the_one_that_takes_its_place_has_begun(folder):
    (folder / RUN_FILE).write_text("old")
    with set_aside(folder), locked(folder):
        (folder / RUN_FILE).write_text("new")
    assert (folder / RUN_FILE).read_text() == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_a_run_comes_back_where_its_successor_does_not_begin(folder):
    (folder / RUN_FILE).write_text("old")
    with pytest.raises(TrainingError, match="no such policy"), set_aside(folder), locked(folder):
        raise TrainingError("no such policy")
    assert (folder / RUN_FILE).read_text() == "old"
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_a_run_that_is_being_trained_is_not_overwritten(folder):
    (folder / RUN_FILE).write_text("old")
    with locked(folder), pytest.raises(TrainingError, match="trains this run"), set_aside(folder):
        pytest.fail("it was put away")
    assert (folder / RUN_FILE).read_text() == "old"


def test_what_a_failed_start_leaves_is_no_obstacle(folder):
    (folder / LOCK_FILE).touch()
    with set_aside(folder):
        folder.mkdir()
        (folder / RUN_FILE).write_text("new")
    assert (folder / RUN_FILE).read_text() == "new"


def test_a_folder_that_is_no_run_is_not_deleted(folder):
    (folder / "thesis.tex").touch()
    with pytest.raises(TrainingError, match="not a run of toremi; will not delete it"), set_aside(folder):
        pytest.fail("it was put away")
    assert (folder / "thesis.tex").exists()
