"""The settings of `toremi export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from toremi_cli.errors import UsageError
from toremi_cli.policy_config import TOPIC_MODES
from toremi_cli.settings import Setting, problem_of

CONFIGS = ("mosaicml", "olmo-core", "megatron", "nanotron")
"""Data parts of other trainers' configurations."""
FORMS = ("json", "yaml", "weights", "corpus", "tokens", "hf", "olmix", *CONFIGS)
_CORPUS = "Corpus and tokens"
_WEIGHTS = ("final", "mean")


@dataclass(frozen=True)
class ExportConfig:
    """What is exported, in which form."""

    to: Annotated[str, Setting("Form", choices=FORMS)] = "json"
    weights: Annotated[str, Setting("The last weights, or their mean over the run", choices=_WEIGHTS)] = "final"
    by: Annotated[
        str | None,
        Setting(
            "What a config's parts are, or a corpus's folders",
            choices=("source", "topic"),
            unset="source; a corpus has none",
        ),
    ] = None
    data_path: Annotated[
        str | None,
        Setting("Where a part's data is; {name}: the part.", metavar="PATTERN", unset="as each form's tools leave it"),
    ] = None
    topics: Annotated[str, Setting("What a sample's topics are, without a run", choices=TOPIC_MODES)] = "labels"
    tokens: Annotated[
        str | None,
        Setting("Size of the corpus, e.g. 2.6B.", _CORPUS, metavar="N", unset="that of the original"),
    ] = None
    file_format: Annotated[
        str | None,
        Setting(
            "Of its files",
            _CORPUS,
            flag="--format",
            choices=("jsonl.zst", "parquet", "megatron", "numpy"),
            unset="jsonl.zst, or megatron for tokens",
        ),
    ] = None
    seed: Annotated[int, Setting("Decides which samples the corpus has.", _CORPUS)] = 0

    def __post_init__(self) -> None:
        if problem := problem_of(self):
            raise UsageError(problem)
