from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell import toremi
from tests.train.smallrun import ARGUMENTS, write_workdir
from toremi_cli.train.tokens import TokenCache, open_cache


@pytest.fixture(scope="session")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_workdir(tmp_path_factory.mktemp("small") / "work")


@pytest.fixture(scope="session")
def cache(workdir: Path) -> TokenCache:
    """The small corpus as the trainer reads it."""
    return open_cache(workdir, workdir / "annotated", workdir / "tokenizer")


@pytest.fixture(scope="session")
def pretrain(workdir: Path):
    """Run `toremi pretrain` on the small corpus; arguments given later win."""

    def run(*arguments: str | Path, **env: str):
        return toremi("pretrain", "-w", workdir, "--model", workdir / "model.json", *ARGUMENTS, *arguments, **env)

    return run


@pytest.fixture(scope="session")
def uninterrupted(workdir: Path, pretrain) -> Path:
    """The run that others are compared with: one process, never interrupted."""
    process = pretrain("--name", "whole", "--keep-checkpoints", "all")
    assert process.returncode == 0, process.stderr
    return workdir / "runs" / "whole"
