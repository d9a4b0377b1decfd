import errno
import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from toremi_cli.errors import BusyError
from toremi_cli.locks import locked

HOLDER = """
import sys, time
from pathlib import Path
from toremi_cli.locks import locked
with locked(Path(sys.argv[1]), Path("out"), ""):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_goes_with_a_killed_one(tmp_path):
    lock = tmp_path / "new" / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    busy = pytest.raises(BusyError, match=rf"out: process {holder.pid} on .* is at work on it; wait")
    with busy, locked(lock, "out", "wait", wait_seconds=0.2):
        pytest.fail("both hold it")
    holder.kill()
    holder.wait()
    with locked(lock, "out", "wait", wait_seconds=5):
        assert str(os.getpid()) in lock.read_text()
    assert not lock.exists()


def test_many_who_wait_get_it_one_after_the_other(tmp_path):
    inside, seen = [], []

    def work():
        for _ in range(10):
            with locked(tmp_path / ".lock", "out", "", wait_seconds=float("inf")):
                inside.append(1)
                seen.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 40


def test_a_file_system_without_locks_is_not_taken_for_another_process(tmp_path, monkeypatch, capsys):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / ".lock", "out", ""):
        pass
    assert "warning: out: no locks here (No locks available)" in capsys.readouterr().err
