import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from tests.shell import assert_one_line_error, environment, toremi
from tests.test_tables import write_stage
from toremi_cli import __version__
from toremi_cli.cli import app

COMMANDS = sorted(typer.main.get_command(app).commands)


def test_help_and_lists_import_nothing_heavy():
    program = (
        "import sys, contextlib\n"
        "from toremi_cli.cli import app\n"
        "with contextlib.suppress(SystemExit):\n"
        "    app(['--help'])\n"
        "with contextlib.suppress(SystemExit):\n"
        "    app(['pretrain', '--list-policies'])\n"
        "heavy = {'torch', 'gensim', 'top2vec', 'transformers', 'numpy', 'pyarrow', 'sklearn', 'matplotlib'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    assert "HEAVY []" in process.stdout, process.stdout + process.stderr
    assert "toremi-2" in process.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_at_80_columns(name):
    process = toremi(name, "--help")
    assert process.returncode == 0, process.stderr
    assert f"toremi {name}" in process.stdout.split("Usage:")[1].split("\n", 1)[1], "the help shows no example"
    assert max(len(line) for line in process.stdout.splitlines()) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name):
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"toremi {name}" in readme


def test_version():
    process = toremi("--version")
    assert process.returncode == 0
    assert process.stdout == f"toremi {__version__}\n"


def test_completion_script_is_offered():
    # The option asks which shell called it; the `true` keeps bash from handing its own process over to the command.
    command = f"{sys.executable} -m toremi_cli.cli --show-completion; true"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment())
    assert "complete" in process.stdout


def test_inspect_shows_kind_provenance_and_rows(tmp_path):
    write_stage(tmp_path / "samples", max_tokens=8)
    process = toremi("inspect", tmp_path / "samples", "--rows", "2")
    assert process.returncode == 0, process.stderr
    for part in ("samples", "num_rows        6", "toremi embed", "max_tokens 8", "d1#0"):
        assert part in process.stdout
    assert max(len(line) for line in process.stdout.splitlines()) <= 80
    assert "d2#0" not in process.stdout


def test_inspect_of_a_table_of_text_alone_says_what_is_filled_in(tmp_path):
    pq.write_table(pa.table({"text": ["a b"], "url": ["u"]}), tmp_path / "t.parquet")
    described = json.loads(toremi("inspect", tmp_path / "t.parquet", "--json").stdout)
    assert (described["table"], described["num_rows"]) == ("annotated", 1)
    meaning = {column["name"]: column["meaning"] for column in described["columns"]}
    assert not meaning["text"].endswith("filled in") and meaning["url"] == "(not part of the contract)"
    assert meaning["split"].endswith("; not there, filled in")


def test_inspect_errors_are_one_line(tmp_path):
    assert_one_line_error(toremi("inspect", tmp_path / "none"), "no such file or folder")
    assert_one_line_error(toremi("inspect", tmp_path), "no Parquet file")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    assert_one_line_error(toremi("inspect", tmp_path / "x.parquet"), "not a whole Parquet file")


def test_inspect_of_a_workdir_or_a_run_names_the_tables_in_it(tmp_path):
    write_stage(tmp_path / "samples")
    shutil.copy(tmp_path / "samples" / "part-00000.parquet", tmp_path / "topics.parquet")
    (tmp_path / "runs").mkdir()
    process = toremi("inspect", tmp_path)
    assert_one_line_error(process, "a folder of several tables", "in it: samples, topics.parquet")


def test_debug_gives_the_traceback(tmp_path):
    process = toremi("inspect", tmp_path / "none", "--debug")
    assert process.returncode != 0
    assert "Traceback" in process.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["export", "--nope"], "No such option: --nope (Possible options: --to); see `"),
        (["embedd", "x"], "No such command 'embedd'. Did you mean 'embed'?; see `"),
        (["embed"], "Missing argument 'CORPUS'; see `"),
        (["pretrain", "--interval", "x"], "--interval x: expected a whole number of at least 1, or 'auto'"),
        (["--nope"], "No such option: --nope; see `"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments, message):
    process = toremi(*arguments)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith(f"error: {message}") and process.stderr.count("\n") == 1


def test_a_reader_that_has_gone_is_no_failure():
    command = f"set -o pipefail; {sys.executable} -m toremi_cli pretrain --list-policies | true"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment())
    assert (process.returncode, process.stderr) == (0, "")


def test_without_arguments_the_help_is_shown():
    process = toremi()
    assert process.returncode == 2
    assert "annotate" in process.stdout and process.stderr == ""


def test_ctrl_c_while_the_command_is_still_being_loaded():
    program = (
        "import os, signal, sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'toremi_cli.commands':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        "sys.argv = ['toremi', '--help']\n"
        "from toremi_cli.__main__ import main\n"
        "main()\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    assert process.returncode == 130
    assert "Traceback" not in process.stderr


def test_a_full_disk_is_told_also_where_numpy_hides_it():
    import numpy as np

    from toremi_cli.commands.common import _one_line

    with pytest.raises(OSError) as caught:
        np.arange(100_000).tofile("/dev/full")
    assert "no space left on the device" in _one_line(caught.value)
