"""Our HTML pages: one file each, that loads nothing; one frame and one style sheet for all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from toremi_cli import __version__


def asset(package: str, name: str) -> str:
    """The text of a file among a package's assets."""
    return (resources.files(package) / "assets" / name).read_text(encoding="utf-8")


def render_page(
    title: str,
    meta: str,
    body: str,
    *,
    style: str,
    script: str,
    data: Any,
    footer: str,
    sections: Sequence[tuple[str, str]] = (),
) -> str:
    """The page's HTML.

    Args:
        title: its heading.
        meta: the line below that.
        body: HTML.
        style: CSS, after what all pages have.
        script: JavaScript; finds `data` as JSON in the element of that name.
        data: anything that JSON holds.
        footer: HTML.
        sections: anchors and titles of what there is to jump to.
    """
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name in sections)
    return Template(asset("toremi_cli", "page.html")).substitute(
        title=escape(title),
        meta=escape(meta),
        nav=f'<nav aria-label="Sections">{links}</nav>' if links else "",
        body=body,
        style=asset("toremi_cli", "base.css") + style,
        script=script,
        footer=footer,
        version=__version__,
        # "<" in a name must not end the script element.
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    )
