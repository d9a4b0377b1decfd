import pytest

from tests.runs.synthetic import make_recorded_run
from toremi_cli.errors import TableError
from toremi_cli.runs.history import read_history
from toremi_cli.runs.run import Run


def test_a_run_reads_back_as_arrays(tmp_path):
    history = read_history(Run("toremi-2", make_recorded_run(tmp_path, "toremi-2", list("abcde"), seed=1)))
    courses = history.topics
    assert courses.weight.shape == courses.loss.shape == (18, 5)
    assert courses.switch_step == 600
    assert not courses.is_constant
    assert history.policy == "toremi-2"
    assert history.domains("eval_bits_per_byte") == ["books", "code", "news", "python_manual", "web"]
    assert history.metrics["eval_bits_per_byte", "macro"].values.shape == (18,)


def test_a_run_that_recorded_nothing_is_told(tmp_path):
    with pytest.raises(TableError, match="the run has recorded nothing"):
        read_history(Run("empty", tmp_path))
