"""A chat server on a port of its own that behaves, or misbehaves, as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server sends: labels, or any text in their place, or any status."""

    labels: list[str] | None = None
    text: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    message: str | None = None
    """Of an error."""
    finish: str = "stop"
    thoughts: str | None = None
    """`reasoning_content`."""
    hang_up: bool = False

    def payload(self) -> bytes:
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"error": {"message": self.message or f"status {self.status}"}}).encode()
        content = self.text if self.text is not None else json.dumps({"labels": self.labels})
        message = {"role": "assistant", "content": content}
        if self.thoughts is not None:
            message["reasoning_content"] = self.thoughts
        choice = {"index": 0, "finish_reason": self.finish, "message": message}
        return json.dumps(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        ).encode()


class ChatServer:
    """Keeps every request it got; `behave(request, number)` decides the replies (number counts from 0)."""

    def __init__(self, behave: Callable[[dict[str, Any], int], Reply]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.requests)
                    outer.requests.append(request)
                    outer.authorizations.append(self.headers.get("Authorization", ""))
                reply = behave(request, number)
                if reply.hang_up:
                    self.close_connection = True
                    self.connection.close()
                    return
                payload = reply.payload()
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@contextmanager
def chat_server(behave: Callable[[dict[str, Any], int], Reply]) -> Iterator[ChatServer]:
    """A running server."""
    server = ChatServer(behave)
    try:
        yield server
    finally:
        server.close()


def user_text(request: dict[str, Any]) -> str:
    """The first question in a request."""
    return next(m["content"] for m in request["messages"] if m["role"] == "user")


def listed_labels(request: dict[str, Any]) -> list[str]:
    """The labels in the order in which the request lists them."""
    line = next(line for line in user_text(request).splitlines() if line.startswith("Labels: "))
    return line.removeprefix("Labels: ").split(", ")
