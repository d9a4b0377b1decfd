"""Real text that every install of the project's dependencies holds."""

from __future__ import annotations

from functools import cache

from gensim.test.utils import datapath


@cache
def news_articles() -> list[str]:
    """300 short news articles of 2001 (the Lee background corpus in gensim's test data)."""
    with open(datapath("lee_background.cor"), encoding="utf-8") as file:  # noqa: PTH123 - gensim gives a string
        return [line.strip() for line in file if line.strip()]
