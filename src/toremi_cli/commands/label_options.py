"""The flags that decide topics and labels, for `toremi annotate`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toremi_cli.commands.options import given

if TYPE_CHECKING:
    from toremi_cli.layout import Workdir
    from toremi_cli.topics.annotate import AnnotateConfig

LABELS_PANEL = "Labels"
LLM_PANEL = "Labels by a language model"
OFFLINE = "none"
"""`--llm-url` that goes back to the lexicons."""

Taxonomy = Annotated[
    str | None,
    typer.Option(
        "--taxonomy",
        metavar="NAME|FILE",
        rich_help_panel=LABELS_PANEL,
        help="The labels: a file (JSON, or one a line); 'none': each topic's own name [dim]\\[wikipedia41][/]",
    ),
]
MaxLabels = Annotated[
    int | None,
    typer.Option(
        "--max-labels", metavar="N", rich_help_panel=LABELS_PANEL, help="Most labels of a topic, 1 to 3 [dim]\\[3][/]"
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option(
        "--min-score",
        metavar="SCORE",
        rich_help_panel=LABELS_PANEL,
        help="No label scored below this, 0 to 1, is given [dim]\\[0.35][/]",
    ),
]
Closeness = Annotated[
    float | None,
    typer.Option(
        "--closeness",
        metavar="PART",
        rich_help_panel=LABELS_PANEL,
        help="What a 2nd or 3rd label needs of the best one's score, 0 to 1 [dim]\\[0.75][/]",
    ),
]
Relabel = Annotated[
    bool,
    typer.Option(
        "--relabel",
        rich_help_panel=LABELS_PANEL,
        help="Only name and label the topics that are there; vectors and clusters stay, stale or not.",
    ),
]
LlmUrl = Annotated[
    str | None,
    typer.Option(
        "--llm-url",
        metavar="URL",
        rich_help_panel=LLM_PANEL,
        help="OpenAI-compatible server, e.g. http://localhost:8000/v1 (key: TOREMI_LLM_KEY or OPENAI_API_KEY); "
        "'none': back to the lexicons",
    ),
]
LlmModel = Annotated[
    str | None,
    typer.Option("--llm-model", metavar="NAME", rich_help_panel=LLM_PANEL, help="Model on that server."),
]
LlmConcurrency = Annotated[
    int | None,
    typer.Option("--llm-concurrency", metavar="N", rich_help_panel=LLM_PANEL, help="Requests at once [dim]\\[4][/]"),
]
LlmAttempts = Annotated[
    int | None,
    typer.Option(
        "--llm-attempts", metavar="N", rich_help_panel=LLM_PANEL, help="Most tries of a request [dim]\\[5][/]"
    ),
]
LlmTimeout = Annotated[
    float | None,
    typer.Option(
        "--llm-timeout", metavar="SECONDS", rich_help_panel=LLM_PANEL, help="Longest wait for an answer [dim]\\[60][/]"
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", rich_help_panel=LLM_PANEL, help="Only say how many calls and tokens the labels would cost."
    ),
]


def annotate_config(workdir: Workdir, llm: dict[str, Any], seed: int | None, **flags: Any) -> AnnotateConfig:
    """The settings of labels; a flag that is None is as the labels there were made, else the default.

    Args:
        workdir: may hold labelled topics.
        llm: the fields of `LlmConfig` that flags set, None where not given.
        seed: of the order of labels in prompts.
        flags: the other fields of `AnnotateConfig`.

    Raises:
        UsageError: a server without a model, labels that cannot be read, or a value out of range.
        MissingExtraError: the package that asks servers is missing.
    """
    from toremi_cli.errors import UsageError
    from toremi_cli.topics.annotate import AnnotateConfig, previous_options
    from toremi_cli.topics.llm import LlmConfig
    from toremi_cli.topics.taxonomy import DEFAULT, load_taxonomy

    before = previous_options(workdir)
    load_taxonomy(flags.get("taxonomy") or before.get("taxonomy", DEFAULT))
    kept = {field.name: before[field.name] for field in fields(AnnotateConfig) if field.name in before}
    settings = {**kept, **given(flags)}
    server = {**(settings.pop("llm", None) or {}), **given({**llm, "seed": seed})}
    if llm["url"] == OFFLINE or not (server.get("url") or server.get("model")):
        return AnnotateConfig(**settings)
    for name in ("url", "model"):
        if not server.get(name):
            raise UsageError(f"labels by a language model need --llm-{name} too")
    config = LlmConfig(**server)
    if llm["url"] or llm["model"]:  # a server that is remembered may have nothing left to say
        config.check_client()
    return AnnotateConfig(**settings, llm=config)
