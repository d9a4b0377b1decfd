"""Commands of `toremi` in processes forked where the libraries are imported already.

Each has its own streams, folder, environment and exit code, as one that a shell starts. It lacks the seconds that
importing torch, gensim and Top2Vec takes. `python -m tests.forks` reads a request a line and answers with exit codes.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

TOPICS = ("gensim.models.doc2vec", "gensim.models.ldamodel", "sklearn.cluster")
LIBRARIES = {
    "annotate": (*TOPICS, "top2vec"),
    "cluster": (*TOPICS, "top2vec"),
    "embed": ("gensim.models.doc2vec", "sklearn.cluster"),
    "eval": ("torch", "transformers.models.gpt2.modeling_gpt2"),
    "pretrain": ("torch",),
}


def run(arguments: list[str], cwd: Path | None, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess:
    """Run one command; return its exit code and both of its streams as text.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds; it is killed.
    """
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as name:
        out, err = Path(name) / "out", Path(name) / "err"
        request = {"arguments": arguments, "cwd": str(cwd or Path.cwd()), "env": env, "out": str(out), "err": str(err)}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], timeout)[0]:
            _end(server)
            raise subprocess.TimeoutExpired(arguments, timeout)
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, out.read_text("utf-8"), err.read_text("utf-8"))


@cache
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.forks"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    folder = Path(__file__).parent.parent
    server = subprocess.Popen(command, text=True, cwd=folder, start_new_session=True, **pipes)
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[str]) -> None:
    _server.cache_clear()
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        for module in ("pyarrow.parquet", "toremi_cli.cli", *_libraries(request["arguments"])):
            importlib.import_module(module)
        gc.collect()
        gc.freeze()  # else each child copies all of that, to look for garbage in it
        child = os.fork()
        if child == 0:
            _become(**request)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


def _libraries(arguments: list[str]) -> tuple[str, ...]:
    found = () if "--help" in arguments else LIBRARIES.get(next(iter(arguments), ""), ())
    return tuple(name for name in found if name != "top2vec" or not {"kmeans", "lda"} & set(arguments))


def _become(arguments: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> NoReturn:
    """Be the process that a shell would have started, without taking the libraries down again at the end."""
    from toremi_cli.cli import main

    for number, path in enumerate((os.devnull, out, err)):
        stream = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["toremi", *arguments]
    code: Any = 1
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
