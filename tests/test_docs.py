"""What README, docs and messages tell a user to type can be typed."""

import ast
import re
import shlex
from pathlib import Path

import duckdb
import pytest
import typer.main

import toremi_cli
from tests.topics.handmade import TOPIC_OF_SAMPLE, write_clusters, write_samples
from toremi_cli.cli import app
from toremi_cli.layout import Workdir
from toremi_cli.topics.annotate import AnnotateConfig, build_annotated

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOREMI = typer.main.get_command(app)
FLAG = re.compile(r"(?<![\w(-])--[a-z][\w-]+")
OTHERS = {"launch.py", "page.py", "map_page.py", "llm.py"}
"""Files with flags of other programs, or with style sheets."""
FLAGS = {
    name: {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    for name, command in TOREMI.commands.items()
}


def blocks(kind):
    """Code blocks of a kind in all pages."""
    found = []
    for page in PAGES:
        for match in re.finditer(rf"^```{kind}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            line = page.read_text("utf-8")[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{page.name}:{line}"))
    return found


def typed(block):
    """The commands of a console block, as lists of words."""
    for line in re.sub(r"\\\n", " ", block).splitlines():
        if line.startswith("$ "):
            yield shlex.split(line[2:], comments=True)


@pytest.mark.parametrize("block", blocks("console"))
def test_commands_in_the_docs_parse(block):
    for words in typed(block):
        if words[0] == "toremi":
            TOREMI.commands[words[1]].make_context(words[1], words[2:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        elif words[0] == "python":
            assert (ROOT / (words[2].replace(".", "/") if words[1] == "-m" else words[1])).exists(), words
        else:
            assert words[:2] == ["pip", "install"] and (ROOT / words[2] / "pyproject.toml").is_file(), words


@pytest.mark.parametrize("block", blocks("python"))
def test_what_python_in_the_docs_imports_is_there(block):
    imports = [node for node in ast.parse(block).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    exec(compile(ast.Module(imports, []), "block", "exec"), {})


@pytest.mark.parametrize("block", [p for p in blocks("python") if "duckdb" in p.values[0]])
def test_python_in_the_docs_runs(block, tmp_path, monkeypatch):
    place = Workdir(tmp_path / "toremi-out")
    write_samples(place, TOPIC_OF_SAMPLE)
    write_clusters(place, TOPIC_OF_SAMPLE)
    build_annotated(place, AnnotateConfig())
    monkeypatch.chdir(tmp_path)
    *statements, last = ast.parse(block).body
    names = {}
    exec(compile(ast.Module(statements, []), "block", "exec"), names)
    found = eval(compile(ast.Expression(last.value), "block", "eval"), names)
    assert isinstance(found, duckdb.DuckDBPyRelation)
    assert ("books", "Sports", 1) in found.fetchall()


def texts():
    for file in Path(toremi_cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield file.name, "".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield file.name, node.value


def test_messages_advise_flags_that_commands_have():
    of_torchrun = {"--shutdown-timeout"}
    anywhere = set().union(*FLAGS.values()) | {"--help", "--version", "--config"} | of_torchrun
    for file, text in texts():
        for command, rest in re.findall(r"`toremi (\w+)([^`]*)`", text):
            assert command in FLAGS, (file, text)
            assert set(FLAG.findall(rest)) <= FLAGS[command], (file, text)
        text = re.sub(r"`srun [^`]*`", "", text)  # another program's flags
        if " " in text and file not in OTHERS:
            assert {flag for flag in FLAG.findall(text) if not flag.endswith(("X", "-"))} <= anywhere, (file, text)
