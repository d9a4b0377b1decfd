"""What only a GPU can show of the trainer, in one script of at most ten minutes: `make gpu`.

    python -m benchmarks.gpu [--out gpu-out] [--seconds 540] [--toy]

The card's peak; tokens a second, MFU and memory of GPT-2 and of the modern 124m, compiled or not, with chunked losses,
under AdamW and Muon; the rows of a micro-step and whether to compile, as a run finds them out by trying; a loop in the
manner of nanoGPT beside them; what reweighting costs, in turns; masked documents, with a dense mask and without; a
resume bit for bit. Each case is written as soon as it is measured, to `gpu.json` and `gpu.md`; what there was no time
for is said. It needs no network: the text is the standard library's, and a sample's source its topic. `--toy` is the
same at the size of a test, on the CPU, without torch.compile.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import torch
import transformers
from accelerate.state import AcceleratorState
from benchmarks.trainer import FOREVER, INTERVAL, annotate_by_source, step, stepping
from safetensors.torch import load_file
from torch.nn import functional

from toremi_cli import console
from toremi_cli.corpus.config import CorpusConfig
from toremi_cli.corpus.stage import build_samples
from toremi_cli.layout import Workdir
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.device import make_accelerator
from toremi_cli.train.documents import DENSE, GROUPS
from toremi_cli.train.finding import find_out
from toremi_cli.train.model import build_model, model_config
from toremi_cli.train.optimizers import build_optimizer
from toremi_cli.train.peak import matmul_peak
from toremi_cli.train.run import Training, assemble
from toremi_cli.train.speed import flops_per_token, peak_memory
from toremi_cli.train.tokens import open_cache
from toremi_cli.train.worker import run_worker

Turn = Callable[[int], object]
"""Trains some steps."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    models: tuple[str, str] = ("gpt2", "124m")
    rows: int = 64
    """A step."""
    context_length: int = 1024
    steps: int = 10
    """Timed of each case, after two that warm up."""
    rounds: int = 5
    """Turns of the two that are compared in turns."""
    compile: bool = True
    vocab_size: int = 50257
    files: int = 100_000
    """Of the standard library, at most."""


TOY = Size(("gpt2-tiny", "1m"), 2, 16, 1, 2, False, 512, 40)


@dataclass
class Report:
    """What was found so far, written anew after each finding."""

    out: Path
    facts: dict[str, Any]
    deadline: float
    cases: list[dict[str, Any]] = field(default_factory=list)
    checks: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def part(self, name: str, seconds: float) -> Iterator[bool]:
        """Run a part that takes about so long, if there is time; its failure ends no other part."""
        fits = time.monotonic() + seconds < self.deadline
        try:
            yield fits
        except Exception as problem:  # what fails on the first device is what we are here to learn
            self.problems.append(f"{name}: {type(problem).__name__}: {problem}")
        else:
            if not fits:
                self.problems.append(f"{name}: no time left")
        torch._dynamo.reset()
        AcceleratorState._reset_state()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.write()

    def write(self) -> None:
        """Write both files."""
        found = {"facts": self.facts, "cases": self.cases, "checks": self.checks, "problems": self.problems}
        (self.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
        lines = [f"- {key}: {value}" for key, value in {**self.facts, **self.checks}.items()]
        lines += ["", "| model | what | tokens/s | MFU | peak memory | rows at once |", "|---|---|---:|---:|---:|---:|"]
        lines += [
            f"| {c['model']} | {c['what']} | {c['tokens_per_second']:,.0f} | {c['mfu']:.1%} | {c['gib']:.1f} GiB "
            f"| {c['micro_batch']} |"
            for c in self.cases
        ]
        lines += ["", *(f"- not measured: {problem}" for problem in self.problems)]
        (self.out / "gpu.md").write_text("\n".join(lines).rstrip() + "\n")


def main() -> None:
    """Measure; exit with 1 if a part failed or had no time."""
    parser = argparse.ArgumentParser(description="What only a GPU can show of the trainer.")
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    parser.add_argument("--seconds", type=float, default=540.0, help="for all of it")
    parser.add_argument("--toy", action="store_true", help="the size of a test, on the CPU")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    if not arguments.toy and not torch.cuda.is_available():
        sys.exit("error: torch finds no GPU on this machine; --toy runs on the CPU")
    console.set_quiet(True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    size, device = (TOY, torch.device("cpu")) if arguments.toy else (Size(), torch.device("cuda"))
    report = Report(arguments.out, machine(device), deadline)
    workdir = corpus(arguments.out / "work", size)
    for model in size.models:
        measure_model(report, workdir, model, size)
    measure_documents(report, workdir, size.models[1], size)
    with report.part("resume", 30) as fits:
        if fits:
            report.checks["resume bit for bit"] = resumes(workdir, size)
    report.write()
    print((arguments.out / "gpu.md").read_text(), end="")
    sys.exit(bool(report.problems))


def machine(device: torch.device) -> dict[str, Any]:
    """What is measured on, and its peak."""
    on_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, transformers, accelerate))
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python -m benchmarks.gpu", *sys.argv[1:]]),
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
        "versions": versions,
        "peak of matrix products": f"{matmul_peak(device, dtype) / 1e12:.3g} TFLOP/s in {dtype}",
    }


def corpus(root: Path, size: Size) -> Path:
    """A workdir with the standard library as text; its packages are the topics."""
    workdir = Workdir(root)
    if workdir.annotated.exists():
        return root
    text, library = root / "text", Path(sysconfig.get_path("stdlib"))
    files = [p for p in sorted(library.rglob("*.py")) if "site-packages" not in p.parts][: size.files]
    for number, path in enumerate(files):
        parts = path.relative_to(library).parts
        folder = text / (parts[0] if len(parts) > 1 else "modules")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_bytes(path.read_bytes())
    build_samples(str(text), workdir, CorpusConfig(vocab_size=size.vocab_size))
    annotate_by_source(workdir)
    shutil.rmtree(text)
    return root


def measure_model(report: Report, workdir: Path, model: str, size: Size) -> None:
    """All cases of a model, those first that matter most."""
    fast: dict[str, Any] = {"compile": size.compile}
    how = ", compiled" if size.compile else ""
    cases: dict[str, dict[str, Any]] = {
        "uniform, all by default": {},
        f"toremi{how}": {**fast, "policy": {"name": "toremi"}},
        f"uniform, Muon{how}": {**fast, "optimizer": "muon"},
        "uniform": {"compile": False},
        f"uniform, chunked loss{how}": {**fast, "chunked_loss": True},
    }
    for what, settings in cases.items():
        with report.part(f"{model}, {what}", 40) as fits:
            if fits:
                report.cases.append(measure_case(workdir, model, what, settings, size))
                if not settings:
                    report.checks[f"{model}: torch.compile"] = chosen(report.cases[-1])
    with report.part(f"{model}, nanoGPT's loop", 40) as fits:
        if fits:
            # With the rows that are reckoned: its losses take more memory than ours, which were tried.
            run = assembled(workdir, model, size, {"compile": False})
            report.cases.append(measured(run, model, f"a loop like nanoGPT's{how}", nano_loop(run, size), size))
    with report.part(f"{model}, overhead", 60) as fits:
        if fits:
            report.checks[f"{model}: toremi over uniform, in turns"] = overhead(workdir, model, size)


def measure_documents(report: Report, workdir: Path, model: str, size: Size) -> None:
    """Masked documents: by the attention that a run chooses, and by those that it leaves."""
    for way in (None, DENSE, GROUPS):
        # In groups each batch has shapes of its own, for which torch.compile would compile anew.
        compiles = size.compile and way != GROUPS
        what = f"documents, {way or 'as chosen'}{', compiled' if compiles else ''}"
        with report.part(f"{model}, {what}", 40) as fits:
            if not fits:
                continue
            run = assembled(workdir, model, size, {"mask_documents": True, "compile": compiles})
            if way is None:
                report.checks[f"{model}: attention within documents"] = run.documents_note or run.builder.documents
            run.builder.documents = way or run.builder.documents
            find_out(run)
            report.cases.append(measured(run, model, what, stepping(run), size))


def begin(workdir: Path, model: str, size: Size, settings: dict[str, Any]) -> tuple[Training, Turn]:
    """A run of our trainer that has found out how to take its steps, and these, an interval's end every `INTERVAL`."""
    run = assembled(workdir, model, size, settings)
    find_out(run)
    return run, stepping(run)


def assembled(workdir: Path, model: str, size: Size, settings: dict[str, Any]) -> Training:
    """A run of our trainer."""
    config = TrainConfig(
        **{
            "workdir": str(workdir),
            "name": "gpu",
            "model": model,
            "context_length": size.context_length,
            "batch_size": size.rows,
            "policy": {"name": "uniform"},
            "topics": "source",
            "interval": INTERVAL,
            "max_steps": FOREVER,
            "learning_rate": 1e-4,
            "quiet": True,
            **settings,
        }
    )
    cache = open_cache(workdir, config.annotated_path, config.tokenizer_path)
    run, _ = assemble(config, make_accelerator(config, workdir), cache, resume=False)
    return run


def chosen(case: dict[str, Any]) -> str:
    """What the run decided of torch.compile, and by which times of a micro-step."""
    eager, compiled = (
        "not measured" if case[key] is None else f"{case[key]:.3g} s" for key in ("eager_seconds", "compiled_seconds")
    )
    return f"{'used' if case['compiled'] else 'not used'}; a micro-step takes: as it is {eager}, compiled {compiled}"


def measure_case(workdir: Path, model: str, what: str, settings: dict[str, Any], size: Size) -> dict[str, Any]:
    run, turn = begin(workdir, model, size, settings)
    return measured(run, model, what, turn, size)


def measured(run: Training, model: str, what: str, turn: Turn, size: Size) -> dict[str, Any]:
    """Tokens a second, MFU and memory of some steps."""
    dtype = torch.bfloat16 if run.accelerator.mixed_precision == "bf16" else torch.float32
    peak = matmul_peak(run.device, dtype)
    if run.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    turn(2)
    rate = size.steps * run.schedule.batch_tokens / seconds(run, turn, size.steps)
    mfu = rate * flops_per_token(run.model, run.schedule.context_length) / peak
    gib = peak_memory(run.device) / 2**30
    found = asdict(run.found) if run.found else {}
    return {
        "model": model,
        "what": what,
        "tokens_per_second": rate,
        "mfu": mfu,
        "gib": gib,
        "micro_batch": run.micro_batch,
        **{key: found.get(key) for key in ("compiled", "eager_seconds", "compiled_seconds")},
    }


def seconds(run: Training, turn: Turn, num_steps: int) -> float:
    """How long some steps take."""
    wait = torch.cuda.synchronize if run.device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    turn(num_steps)
    wait()
    return time.perf_counter() - start


def nano_loop(run: Training, size: Size) -> Turn:
    """Random windows of one token array, the mean loss, as many micro-steps as the run has."""
    shape = model_config(run.config, run.cache.meta["vocab_size"], run.cache.meta["eos_id"])
    model = build_model(run.config, shape).to(run.device)
    optimizer = build_optimizer(model, run.config, run.device)
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    forward = torch.compile(model) if size.compile else model
    tokens, micro = run.cache.tokens, run.schedule.num_micro_steps
    rows, length, draw = run.schedule.batch_size // micro, run.schedule.context_length, np.random.default_rng(0)

    def mean_loss() -> torch.Tensor:
        begins = draw.integers(len(tokens) - length - 1, size=rows)
        windows = torch.from_numpy(np.stack([tokens[b : b + length + 1] for b in begins]).astype(np.int64))
        windows = windows.to(run.device)
        with run.accelerator.autocast():
            logits = forward(input_ids=windows[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten()) / micro

    def turn(num_steps: int) -> None:
        for _ in range(num_steps):
            for _ in range(micro - 1):
                mean_loss().backward()
            step(model, optimizer, mean_loss())

    return turn


def overhead(workdir: Path, model: str, size: Size) -> str:
    """Seconds of `toremi` over those of `uniform`, a turn of each after the other, whole intervals long."""
    both = [
        begin(workdir, model, size, {"compile": size.compile, "policy": {"name": policy}})
        for policy in ("uniform", "toremi")
    ]
    for _, turn in both:
        turn(2)
    length = max(size.steps, INTERVAL) if size.compile else size.steps
    ratios = []
    for number in range(size.rounds):
        taken = {i: seconds(*both[i], length) for i in ((0, 1) if number % 2 else (1, 0))}
        ratios.append(taken[1] / taken[0] - 1)
    return f"{statistics.median(ratios):+.2%} (turns from {min(ratios):+.2%} to {max(ratios):+.2%})"


def resumes(workdir: Path, size: Size) -> str:
    """Whether a run that stopped half-way ends with the same parameters, bit for bit."""
    config = TrainConfig(
        workdir=str(workdir),
        name="whole",
        model=size.models[1],
        context_length=size.context_length,
        batch_size=size.rows,
        policy={"name": "toremi"},
        topics="source",
        interval=2,
        max_steps=8,
        checkpoint_every=4,
        eval_samples=1,
        optimizer="muon",
        quiet=True,
    )
    run_worker(config, resume=False, overwrite=True)
    whole, again = (workdir / "runs" / name for name in ("whole", "again"))
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(whole, again)
    shutil.rmtree(again / "checkpoint-8")
    AcceleratorState._reset_state()
    run_worker(replace(config, name="again"), resume=True)
    a, b = (load_file(run / "checkpoint-8" / "model.safetensors") for run in (whole, again))
    differing = [name for name in a if not a[name].equal(b[name])]
    return "yes" if not differing else f"no: {len(differing)} of {len(a)} tensors differ"


if __name__ == "__main__":
    main()
