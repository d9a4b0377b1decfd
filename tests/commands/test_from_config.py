"""Settings by flags, by files and by default: `toremi pretrain` stands for all commands."""

import tomllib

import pytest

from tests import config_page
from tests.shell import assert_one_line_error, call
from toremi_cli.policy_config import PolicyConfig
from toremi_cli.settings import settings_of
from toremi_cli.train.config import TrainConfig


def printed(*arguments):
    process = call("pretrain", "--print-config", *arguments)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_what_is_printed_says_the_same_as_no_flags_at_all(tmp_path):
    text = printed()
    found = tomllib.loads(text)
    assert found.pop("policy")["name"] == PolicyConfig.name
    specs = settings_of(TrainConfig)
    assert {key: specs[key].read(value) for key, value in found.items()} == {k: s.default for k, s in specs.items()}
    (tmp_path / "run.toml").write_text(text)
    assert printed("--config", tmp_path / "run.toml") == text


def test_flags_win_over_the_paper_and_the_paper_over_a_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('max_steps = 5\ntopics = "source"\ngpus = 2\n[policy]\nname = "ado"\nburn_in_steps = 7\n')
    assert tomllib.loads(printed("--config", file))["policy"]["burn_in_steps"] == 7
    found = tomllib.loads(printed("--config", file, "--gpus", "all", "--max-steps", "9"))
    assert (found["max_steps"], found["topics"], found["gpus"]) == (9, "source", "all")
    paper = tomllib.loads(printed("--config", file, "--paper", "--loss-average", "token", "--set", "alpha=0.5"))
    assert (paper["topics"], paper["loss_average"], paper["max_steps"]) == ("labels", "token", 5)
    assert (paper["policy"]["name"], paper["policy"]["alpha"]) == ("toremi-2", 0.5)
    other = tomllib.loads(printed("--config", file, "-p", "linupper"))["policy"]
    assert (other["name"], other["burn_in_steps"]) == ("linupper", 1000), "what was said of another policy is left"
    assert [tomllib.loads(printed(*flags))["compile"] for flags in ((), ("--no-compile",))] == ["auto", False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize = 3", "run.toml: batchsize: no such setting; did you mean batch_size?"),
        ("wings = 3", "run.toml: wings: no such setting; --print-config shows all"),
        ("max_steps = '3 or 4'", "run.toml: max_steps = '3 or 4': expected a whole number of at least 1, or 'none'"),
        ("max_steps = '3'", "run.toml: max_steps = '3': expected a whole number of at least 1, or 'none'"),
        ("max_steps = 2.5", "run.toml: max_steps = 2.5: expected a whole number"),
        ("seed = true", "run.toml: seed = True: expected a whole number from 0 to 4294967295"),
        ("compile = 1", "run.toml: compile = 1: expected true or false, or 'auto'"),
        ("schedule = 'square'", "run.toml: schedule = 'square': expected one of cosine, linear, "),
        ("policy = 'ado'", "run.toml: policy = 'ado': expected a table, [policy]"),
        ("[policy]\nname = 'best'", "run.toml: [policy] best: expected one of uniform"),
        ("[policy]\nname = 'ado'\neta = 1", "run.toml: [policy] eta: policy ado reads burn_in_steps, loss_unit"),
        ("seed = ", "run.toml: cannot be read as TOML"),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_its_key(tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    process = call("pretrain", "--config", tmp_path / "run.toml")
    assert_one_line_error(process, message)
    assert process.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nowhere.toml"], "--config nowhere.toml: cannot be read"),
        (["--interval", "x"], "--interval x: expected a whole number of at least 1, or 'auto'"),
        (["--learning-rate", "nan"], "--learning-rate nan: expected a number of at least 0, or 'auto'"),
        (["--batch-size", "4", "--batch-tokens", "64"], "give one of the two"),
        (["--policy", "best"], "--policy best: expected one of uniform"),
        (["--list-policies", "best"], "--list-policies best: expected one of uniform"),
        (["--set", "eta"], "--set eta: expected NAME=VALUE"),
        (["--set", "eta=1"], "--set eta: policy toremi reads w_min, w_max, apply"),
        (["-p", "group-dro", "--set", "eta=x"], "--set eta=x: expected a number of at least 0"),
    ],
)
def test_a_flag_that_says_something_else_is_refused(arguments, message):
    process = call("pretrain", *arguments)
    assert_one_line_error(process, message)
    assert process.returncode == 2


def test_the_help_fits_two_screens_and_has_all_on_demand(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    short, whole = (call("pretrain", flag).stdout for flag in ("--help", "--help-all"))
    assert len(short.splitlines()) <= 100
    for spec in settings_of(TrainConfig).values():
        assert (spec.flags[0] in short) is not spec.setting.rare
        assert spec.flags[0] in whole
    assert "--no-compile" not in whole


def test_a_policy_is_explained_with_its_settings():
    told = call("pretrain", "--list-policies", "group-dro").stdout
    assert told.startswith("group-dro: DoReMi")
    assert all(word in told for word in ("eta", "smoothing", "auto: the paper's", "sampling_floor"))
    assert "alpha" not in told
    assert "random-weights" in call("pretrain", "--list-policies").stdout


def test_the_reference_in_the_docs_is_what_the_settings_say():
    assert config_page.PAGE.read_text("utf-8") == config_page.page(), "run: python -m tests.config_page"
