"""Asking whether the hub is there, of real servers on real ports."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from toremi_cli.evaluate.tasks.harness import cache_only_if_unreachable, hub_answers

constants = pytest.importorskip("huggingface_hub.constants")
config = pytest.importorskip("datasets.config")


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def closed_port() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


def test_a_server_that_refuses_answers_and_a_closed_port_does_not(server: str) -> None:
    assert hub_answers(server)
    assert not hub_answers(closed_port())


def test_an_unreachable_hub_means_cache_only_and_only_within(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", closed_port())
    with cache_only_if_unreachable() as answers:
        assert not answers
        assert constants.is_offline_mode() and config.HF_HUB_OFFLINE
    assert not constants.is_offline_mode() and not config.HF_HUB_OFFLINE


def test_a_hub_that_answers_changes_nothing(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server)
    with cache_only_if_unreachable() as answers:
        assert answers
        assert not constants.is_offline_mode()
