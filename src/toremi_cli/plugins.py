"""Policies and vectors of other packages, found by their entry points; nothing is imported until it is named.

    [project.entry-points."toremi.policies"]
    loudest = "my_package:Loudest"

A name that is built in means what is built in, whatever is installed.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

POLICIES, VECTORS = "toremi.policies", "toremi.vectors"
"""The groups of entry points."""


class PluginError(ValueError):
    """A plug-in that can't be used; the message names it, and its package."""


def plugin_names(group: str) -> list[str]:
    """Names of the plug-ins of a group that are installed."""
    return sorted(entry_points(group=group).names)


def load_plugin(group: str, name: str) -> Any:
    """The class that a plug-in names, None where there is no plug-in of that name.

    Raises:
        PluginError: it can't be imported, or two packages have one of that name.
    """
    found = {point.value: point for point in entry_points(group=group, name=name)}
    if len(found) > 1:
        packages = " and ".join(sorted(map(_package, found.values())))
        raise PluginError(f"plug-in {name!r} of {group} is in {packages}: uninstall one of them")
    for point in found.values():
        try:
            return point.load()
        except Exception as problem:  # whatever a foreign module does
            said = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
            raise PluginError(
                f"plug-in {name!r} of {_package(point)} can't be loaded from {point.value} ({said}); "
                "mend or uninstall the package"
            ) from None
    return None


def plugin_version(group: str, name: str) -> str:
    """Package and version that a plug-in comes from; empty where there is none."""
    return next((_package(point) for point in entry_points(group=group, name=name)), "")


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
