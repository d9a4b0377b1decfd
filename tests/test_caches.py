import importlib.util
import os

from toremi_cli import caches


def test_caches_that_cannot_be_written_go_to_a_temporary_folder(monkeypatch, tmp_path, capsys):
    for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(caches.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    caches.ensure_writable_caches()
    assert "MPLCONFIGDIR" not in os.environ
    monkeypatch.setenv("HOME", "/dev/null/nobody")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # packages in a folder of root's
    for _ in range(2):
        caches.ensure_writable_caches()
    own = tmp_path / f"toremi-cache-{os.getuid()}"
    assert os.environ["NUMBA_CACHE_DIR"] == str(own / "numba_cache_dir")
    assert os.environ["MPLCONFIGDIR"] == str(own / "mplconfigdir")
    assert own.stat().st_mode & 0o777 == 0o700
    told = capsys.readouterr().err
    assert told.count("/dev/null/nobody/.cache: cannot be written") == 1 and str(own) in told.replace("\n", "")
