import io
import time

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from toremi_cli import console


def test_without_a_terminal_progress_is_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(console, "LOG_EVERY_SECONDS", 0.0)
    with console.progress("Counting", total=4, unit="sheep") as bar:
        for _ in range(4):
            time.sleep(0.001)
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Counting: 1 of 4 sheep, ")
    assert "sheep/s" in lines[0] and "left" in lines[0]
    assert lines[-1].startswith("Counting: 4 sheep in 0m00s")


def test_quiet_silences_all_but_errors(capsys):
    console.set_quiet(True)
    try:
        console.note("a note")
        console.warn("a warning")
        with console.progress("Counting"):
            pass
        console.error("an error")
    finally:
        console.set_quiet(False)
    assert capsys.readouterr().err == "error: an error\n"


def test_results_go_to_stdout_as_json(capsys):
    console.print_json({"a": [1, "ü"]})
    captured = capsys.readouterr()
    assert captured.out == '{\n  "a": [\n    1,\n    "ü"\n  ]\n}\n'
    assert captured.err == ""


def test_what_users_call_things_is_no_markup(capsys):
    name = "arxiv [cs.CL] [/b] [red]:smile:"
    table = Table(name)
    table.add_row(name)
    console.out.print(table)
    console.out.print(name)
    console.say(name)
    assert capsys.readouterr().out.count(name) == 4
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Progress(*console.bar_columns(total=1), console=screen) as bars:
        bars.add_task(name, total=1, unit="samples")
    assert name in screen.file.getvalue()
