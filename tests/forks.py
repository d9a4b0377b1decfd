"""Python's modules in processes forked where the libraries are imported already.

Each has its own streams, folder, environment and exit code, as one that a shell starts, and so have the modules that it
starts: accelerate's launcher, the ranks. None spends the seconds that importing torch, gensim and Top2Vec takes.
`python -m tests.forks` reads a request a line and answers with process ids.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import multiprocessing.util
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
TOPICS = ("gensim.models.doc2vec", "gensim.models.ldamodel", "sklearn.cluster")
DENSITY = ("top2vec", "tests.compiled")
GPT2 = ("torch", "transformers.models.gpt2.modeling_gpt2")
TRAINING = (*GPT2, "accelerate.commands.launch", "torch.distributed.run", "toremi_cli.train.loop")
TRAINING += ("toremi_cli.train.state",)
HF_TRAINER = (*TRAINING, "toremi_cli.integrations.hf_trainer")
LIBRARIES = {
    "annotate": TOPICS,
    "cluster": (*TOPICS, *DENSITY),
    "embed": ("gensim.models.doc2vec", "sklearn.cluster"),
    "eval": GPT2,
    "pretrain": TRAINING,
    "tests.train.both_ranks": TRAINING,
    "tests.train.sharded_ranks": TRAINING,
}
OURS = ("toremi_cli.", "tests.", "benchmarks.", "examples.", "accelerate.commands.launch", "torch.distributed.run")
"""Modules that begin as forks; others begin anew."""
READ_LATE = ("ACCELERATE_", "CUDA_VISIBLE_DEVICES", "PET_", "PYTHONPATH", "PYTHONSAFEPATH", "TOREMI_")
READ_LATE += ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""How variables begin that Python and libraries don't read when they start or are imported."""


class Process:
    """A module that runs in a fork: what `subprocess.Popen` offers, with both streams as text."""

    def __init__(self, arguments: list[str], cwd: Path | None, env: dict[str, str], *libraries: str) -> None:
        """Start `python ARGUMENTS`, where they begin with -m MODULE or -c PROGRAM."""
        self.args, self.returncode = arguments, None
        self._folder = tempfile.TemporaryDirectory(prefix="fork-")
        self._server = _server()
        request = {"arguments": arguments, "cwd": str(cwd or Path.cwd()), "env": env, "folder": self._folder.name}
        self.pid = _ask(self._server, {**request, "libraries": libraries or _libraries(arguments)})

    returncode: int | None

    def poll(self) -> int | None:
        """The exit code once it has ended."""
        code = Path(self._folder.name) / "code"
        if self.returncode is None and code.exists():
            self.returncode = int(code.read_text())
        elif self.returncode is None:
            assert self._server.poll() is None, "the process that starts others has ended"
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout` seconds; it goes on.
        """
        end = time.monotonic() + (timeout or float("inf"))
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return what it wrote."""
        self.wait(timeout)
        out, err = (Path(self._folder.name, name).read_text("utf-8") for name in ("out", "err"))
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    arguments: list[str], cwd: Path | None, env: dict[str, str], timeout: float, *libraries: str
) -> subprocess.CompletedProcess[str]:
    """Run one module; return its exit code and both of its streams as text.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds; it is killed.
    """
    process = Process(arguments, cwd, env, *libraries)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.wait(), out, err)


def _libraries(arguments: list[str]) -> tuple[str, ...]:
    found = () if "--help" in arguments else next((LIBRARIES[word] for word in arguments if word in LIBRARIES), ())
    return tuple(name for name in found if name not in DENSITY or not {"kmeans", "lda", "--relabel"} & set(arguments))


@cache
def _server() -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    env["NUMBA_THREADING_LAYER"] = "workqueue"  # OpenMP's threads don't outlive a fork
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": env}
    command = [sys.executable, "-m", "tests.forks"]
    server = subprocess.Popen(command, text=True, cwd=ROOT, start_new_session=True, **pipes)
    atexit.register(_end, server)
    return server


def _ask(server: subprocess.Popen[str], request: dict[str, Any]) -> int:
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


def _end(server: subprocess.Popen[str]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


class _ForkingPopen(subprocess.Popen):
    """Starts our modules as forks of this process."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, *more: Any):
        cwd, env, _, _, shell, *rest = more
        words = [args] if isinstance(args, str) else [os.fspath(word) for word in args]
        words = [word for word in words if word != "-u"]
        ours = words[:2] == [sys.executable, "-m"] and words[2].startswith(OURS)
        if not ours or preexec_fn or pass_fds or shell:
            super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, *more)  # type: ignore[misc]
            return
        handles, new_session = rest[:6], rest[-2]
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            if new_session:
                os.setsid()
            _become(words[1:], cwd or Path.cwd(), dict(env or os.environ), (handles[0], handles[3], handles[5]))
        self._child_created = True
        self._close_pipe_fds(*handles)  # type: ignore[attr-defined]


def _serve() -> None:
    subprocess.Popen = _ForkingPopen  # type: ignore[misc]
    path = sys.path[1:]
    answers = os.fdopen(os.dup(1), "w")
    running: dict[int, tuple[int, Path]] = {}
    while True:
        for ready in select.select([0, *running], [], [])[0]:
            if ready:
                _note_end(*running.pop(ready))
                os.close(ready)
            elif line := sys.stdin.readline():  # one at a time: whoever asks waits for the answer
                request = json.loads(line)
                pid = _start(path, **request)
                running[os.pidfd_open(pid)] = pid, Path(request["folder"])
                print(pid, file=answers, flush=True)
            else:
                os.killpg(0, signal.SIGKILL)


def _note_end(pid: int, folder: Path) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if folder.exists():
        (folder / "code.partial").write_text(str(code))
        (folder / "code.partial").rename(folder / "code")


def _start(
    path: list[str], arguments: list[str], cwd: str, env: dict[str, str], folder: str, libraries: list[str]
) -> int:
    for module in ("pyarrow.parquet", "toremi_cli.cli", *libraries):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # else each child copies all of that, to look for garbage in it
    child = os.fork()
    if child == 0:
        sys.path[:] = path
        streams = [os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT) for name in ("out", "err")]
        _become(arguments, cwd, env, (os.open(os.devnull, os.O_RDONLY), *streams))
    return child


def _become(arguments: list[str], cwd: str | Path, env: dict[str, str], streams: tuple[int, int, int]) -> NoReturn:
    """Be the process that a shell would have started, without taking the libraries down again at the end."""
    for number, stream in enumerate(streams):
        if stream >= 0:
            os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit._clear()  # else it would tidy up after the process that it is a fork of
    atexit.register(multiprocessing.util._exit_function)
    os.chdir(cwd)
    code: Any = 1
    try:
        _set_path(env)
        os.environ.clear()
        os.environ.update(env)
        _execute(*arguments)
        code = 0
    except SystemExit as end:
        code = _exit_code(end.code)
    except BaseException as problem:
        traceback.print_exc()
        code = 130 if isinstance(problem, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(code: Any) -> int:
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return int(code or 0)


def _set_path(env: dict[str, str]) -> None:
    """Where modules are looked for, by the variables, in place of those that this process began with."""
    began_with = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [path for path in sys.path if path not in ("", *began_with)]
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    if not env.get("PYTHONSAFEPATH"):
        sys.path.insert(0, "")
    importlib.invalidate_caches()


def _execute(kind: str, what: str, *arguments: str) -> None:
    sys.argv = ["toremi" if kind == "-m" else kind, *arguments]
    if what == "toremi_cli.cli":  # made already: the help of all settings takes a second
        from toremi_cli.cli import main

        main()
        return
    if kind == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        return
    sys.modules.pop(what, None)
    runpy.run_module(what, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve()
