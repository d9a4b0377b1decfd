"""Files and folders that appear whole or not at all."""

import errno
import subprocess
import sys

import pytest

from toremi_cli.files import atomic_file, atomic_folder, find_json, remove_temporaries_in

WRITER = """
import sys, time
from pathlib import Path
from toremi_cli.files import atomic_file
with atomic_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_write_removes_what_a_killed_writer_of_the_same_file_left_and_nothing_of_a_living_one(tmp_path):
    def start(name):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / name)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline() == "writing\n"
        return writer

    def write(name):
        with atomic_file(tmp_path / name) as temporary:
            temporary.write_text("whole")

    killed, other, living = start("a.html"), start("b.html"), start("a.html")
    for writer in (killed, other):
        writer.kill()
        writer.wait()
    assert len(list(tmp_path.iterdir())) == 3
    write("a.html")
    left = sorted(path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir())
    assert left == [".a.html.tmp", ".b.html.tmp", "a.html"]  # of the living writer, and of another file
    assert (tmp_path / "a.html").read_text() == "whole"
    living.kill()
    living.wait()
    write("a.html")
    write("b.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_full_disk_is_an_oserror_and_leaves_nothing(tmp_path):
    with pytest.raises(OSError) as caught, atomic_file(tmp_path / "x") as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        with temporary.open("wb", buffering=0) as file:
            file.write(b"data")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fill(value, fail=False):
        with atomic_folder(tmp_path / "x") as temporary:
            (temporary / "value").write_text(value)
            if fail:
                raise KeyError("stop")

    fill("one")
    with pytest.raises(KeyError):
        fill("two", fail=True)
    assert (tmp_path / "x" / "value").read_text() == "one"
    fill("three")
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["three"]
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_a_folder_that_was_put_aside_in_the_moment_of_a_kill_comes_back(tmp_path):
    (tmp_path / ".x.old").mkdir()
    (tmp_path / ".x.old" / "value").write_text("one")
    (tmp_path / ".x.tmp-1").mkdir()
    (tmp_path / ".y.tmp-1").touch()
    remove_temporaries_in(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["x", "x/value"]


def test_json_that_is_missing_or_damaged_is_none(tmp_path):
    assert find_json(tmp_path / "x") is None
    (tmp_path / "x").write_text("{broken")
    assert find_json(tmp_path / "x") is None
    (tmp_path / "x").write_text('{"a": 1}')
    assert find_json(tmp_path / "x") == {"a": 1}
