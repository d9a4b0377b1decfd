"""Text of four topics that every install holds, for the examples beside this file."""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path

import torch

CONTEXT_BYTES = 128
TOPICS = ["code", "headers", "prose", "noise"]


def texts() -> dict[str, str]:
    """Some text of each topic: Python's sources, C headers, docstrings' prose, and prose with shuffled characters."""
    library = Path(sysconfig.get_paths()["stdlib"])
    code = "".join((library / f"{name}.py").read_text(encoding="utf-8") for name in ("argparse", "ast", "inspect"))
    folder = Path(torch.__file__).parent / "include" / "ATen"
    headers = "".join(p.read_text(encoding="utf-8") for p in sorted(folder.glob("*.h"))[:40])
    prose = "\n".join(str(getattr(torch, name).__doc__) for name in sorted(dir(torch)) if name.islower())
    characters = list(prose[:100_000])
    random.Random(0).shuffle(characters)
    return dict(zip(TOPICS, (code, headers, prose, "".join(characters)), strict=True))
