"""The settings of `toremi tokenize`. Nothing here imports more than the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from toremi_cli.engine import ENGINE, WORKERS, check_engine
from toremi_cli.errors import UsageError
from toremi_cli.settings import Setting, problem_of


@dataclass(frozen=True)
class TokenizeConfig:
    """What is made into tokens, and where that is worked on."""

    annotated: Annotated[str | None, Setting("Table to make tokens of.", metavar="PATH", unset="the workdir's")] = None
    tokenizer: Annotated[str | None, Setting("Folder of the tokenizer.", metavar="DIR", unset="the workdir's")] = None
    output: Annotated[
        str | None,
        Setting(
            "Also put them there, for pretrain --tokens: a folder, or s3://….",
            flag="--output -o",
            metavar="PATH",
            none="none",
        ),
    ] = None
    workers: Annotated[int | None, WORKERS] = None
    engine: Annotated[str, ENGINE] = "local"

    def __post_init__(self) -> None:
        if problem := problem_of(self):
            raise UsageError(problem)
        check_engine(self.engine)
