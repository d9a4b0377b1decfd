"""An object store: moto's S3 behind a real HTTP server on a port of its own, which can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

FAILED = "503 Service Unavailable"


@dataclass
class ObjectStore:
    """A WSGI application before moto's."""

    moto: Any
    env: dict[str, str] = field(default_factory=dict)
    """What a process needs to find it."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Path and range of every request to read."""
    fails: Callable[[str], bool] = lambda path: False
    """Whether a request to a path is answered by an error."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] == "GET":
            self.requests.append((path, environ.get("HTTP_RANGE", "")))
        if self.fails(path):
            start_response(FAILED, [("Content-Length", "0")])
            return [b""]
        return self.moto(environ, start_response)


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """An empty store."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, *arguments: Any) -> None:
            pass

    store = ObjectStore(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=Silent)
    store.env = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield store
    server.shutdown()
    thread.join()
