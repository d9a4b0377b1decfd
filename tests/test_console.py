import time

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
