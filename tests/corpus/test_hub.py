"""A corpus on the Hugging Face hub: its own client, against a server here that speaks the hub's API."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

from tests.shell import assert_one_line_error, toremi

ROWS = [{"id": f"w{i}", "text": f"Page {i} of the web, with words."} for i in range(30)]
FILES = {
    "README.md": b"# a data set card",
    "data/web/a.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "data/books/b.txt": b"A whole book, on one line.",
}
REVISIONS = ("main", "v2")


class Hub(BaseHTTPRequestHandler):
    """The repository `datasets/some/corpus`: its description, its tree, and its files by ranges of bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/datasets/some/corpus/tree/(\w+)/?(.*)", path):
            self.tree(*match.groups())
        elif match := re.fullmatch(r"/datasets/some/corpus/resolve/(\w+)/(.*)", path):
            self.file(*match.groups())
        elif (match := re.fullmatch(r"/api/datasets/some/corpus(?:/revision/(\w+))?", path)) and (
            match[1] or "main"
        ) in REVISIONS:
            self.answer(200, json.dumps({"id": "some/corpus", "sha": "0" * 40}).encode())
        else:
            self.answer(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

    def tree(self, revision: str, folder: str) -> None:
        inside = {name for name in FILES if name.startswith(f"{folder}/" if folder else "")}
        if not inside:
            self.answer(404, b"{}", **{"X-Error-Code": "EntryNotFound"})
            return
        depth = len(folder.split("/")) if folder else 0
        deep = "recursive=true" in self.path.lower()
        folders = {"/".join(name.split("/")[:k]) for name in inside for k in range(depth + 1, len(name.split("/")))}
        entries = [{"type": "directory", "path": name, "size": 0, "oid": "f" * 40} for name in sorted(folders)]
        entries += [
            {"type": "file", "path": name, "size": len(FILES[name]), "oid": f"{len(FILES[name]):040x}"}
            for name in sorted(inside)
        ]
        near = [entry for entry in entries if deep or len(entry["path"].split("/")) == depth + 1]
        self.answer(200, json.dumps(near).encode())

    def file(self, revision: str, name: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self.answer(200, FILES[name])
            return
        self.answer(206, FILES[name][int(asked[1]) : int(asked[2]) + 1 if asked[2] else None])

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}", "HF_HUB_OFFLINE": "0"}
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("repository", ["datasets/some/corpus", "datasets/some/corpus@v2"])
def test_embed_reads_a_folder_of_the_hub(hub, tmp_path, repository):
    corpus = f"hf://{repository}/data"
    process = toremi("embed", corpus, "--vector-dim", "4", "--json", cwd=tmp_path, **hub)
    assert process.returncode == 0, process.stderr
    sources = json.loads(process.stdout)["sources"]
    assert {name: counts["documents"] for name, counts in sources.items()} == {"books": 1, "web": 30}
    again = toremi("embed", corpus, cwd=tmp_path, **hub)
    assert again.stderr.count("up to date") == 2


def test_what_is_not_on_the_hub(hub, tmp_path):
    for corpus in ("hf://datasets/some/other", "hf://datasets/some/corpus/none", "hf://datasets/corpus"):
        assert_one_line_error(toremi("embed", corpus, cwd=tmp_path, **hub), corpus)
