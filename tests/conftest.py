import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.object_store import serving
from toremi_cli import console

# Busy machines are slow and still right; the same examples every time, so that a failure comes back.
settings.register_profile("toremi", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("toremi")

# A shell starts what runs in its background with Ctrl-C ignored, and processes hand that down: not to those here.
signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = ("integrations", "test_killed.py", "test_gpu_benchmark.py", "train", "topics", "commands")
"""Parts of the tests in which single ones take up to a minute, the longest first."""


def pytest_collection_modifyitems(items):
    """Long tests start first: at the end short ones are left, which workers can take from each other."""
    root = Path(__file__).parent
    places = {part: place for place, part in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.relative_to(root).parts[0], len(LONG)))


@pytest.fixture(scope="session")
def store():
    """An object store behind a real port."""
    with serving() as served:
        yield served


@pytest.fixture(autouse=True)
def _audible():
    """A command that ran in this process before may have been a quiet one."""
    console.set_quiet(False)
