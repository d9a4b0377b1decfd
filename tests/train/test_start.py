from dataclasses import replace

import pytest
import torch

from toremi_cli.errors import TrainingError
from toremi_cli.runs.record import RUN_FILE, update_run
from toremi_cli.train.announce import slow_checkpoint
from toremi_cli.train.config import TrainConfig
from toremi_cli.train.folder import check_replaceable
from toremi_cli.train.needs import is_out_of_memory, less_memory
from toremi_cli.train.start import configure, settle
from toremi_cli.train.worker import failure


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    return run


def settled(folder, overwrite):
    config = TrainConfig(workdir=str(folder.parents[1]), name=folder.name)
    return settle(config, {}, resume=False, overwrite=overwrite)[1:]


def test_what_changes_no_number_may_be_added_to_a_run(folder):
    """The line about memory names these flags."""
    old = configure({"workdir": str(folder.parents[1]), "name": folder.name})
    update_run(folder, config=old.to_json(), status="running")
    flags = {"chunked_loss": True, "compile": True, "gradient_checkpointing": True, "micro_batch": 4}
    more = replace(old, **flags)
    config, resume, done = settle(more, flags, resume=True, overwrite=False)
    assert (config, resume, done) == (more, True, None)
    assert settle(more, flags, resume=False, overwrite=False)[1]
    with pytest.raises(TrainingError, match="precision was auto, is bf16"):
        settle(replace(old, precision="bf16"), {"precision": "bf16"}, resume=True, overwrite=False)


def test_no_memory_left_names_the_flags_that_need_less():
    with pytest.raises(RuntimeError) as problem:
        torch.empty(2**60, dtype=torch.uint8)
    for found in (problem.value, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")):
        assert is_out_of_memory(found)
        line, code = failure(found, TrainConfig(chunked_loss=True, micro_batch=2))
        assert "run the same command again, with --gradient-checkpointing or --micro-batch below 2" in line
        assert code == 1
    assert not is_out_of_memory(RuntimeError("shapes"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"))
    assert less_memory(TrainConfig()).endswith(" or --micro-batch ROWS (rows of a micro-step)")
    assert less_memory(TrainConfig(micro_batch=1)) == "--chunked-loss or --gradient-checkpointing"
    sparing = TrainConfig(chunked_loss=True, gradient_checkpointing=True)
    assert less_memory(sparing, fewer_rows=False).startswith("FSDP (--accelerate-config)")


def test_what_cannot_be_compiled_names_the_flag():
    def broken(graph, inputs):
        raise ValueError("no kernel for that")

    with pytest.raises(RuntimeError) as problem:
        torch.compile(torch.sin, backend=broken)(torch.ones(1))
    line, code = failure(problem.value, TrainConfig(compile=True))
    assert line.startswith("--compile: BackendCompilerFailed: ") and "no kernel for that" in line and "\n" not in line
    assert line.endswith("run the same command again, with --no-compile") and code == 1


def test_a_checkpoint_that_torchrun_would_cut_off_is_told():
    by_torchrun = {"TORCHELASTIC_RUN_ID": "1"}
    assert "torchrun ends its ranks 30 seconds after SIGTERM: start it with --shutdown-timeout 120" in (
        slow_checkpoint(40.0, by_torchrun) or ""
    )
    assert slow_checkpoint(5.0, by_torchrun) is None
    assert slow_checkpoint(40.0, {}) is None
    assert slow_checkpoint(40.0, {**by_torchrun, "TOREMI_LAUNCH_FOLDER": "x"}) is None, "it sends signals itself"


def test_a_run_whose_record_is_damaged_can_be_trained_anew(folder):
    (folder / RUN_FILE).write_text("{")
    with pytest.raises(TrainingError, match="damaged"):
        settled(folder, overwrite=False)
    assert settled(folder, overwrite=True) == (False, None)


def test_a_folder_that_is_no_run_is_not_replaced(folder):
    check_replaceable(folder)
    (folder / "thesis.tex").touch()
    with pytest.raises(TrainingError, match="not a run of toremi; will not delete it"):
        check_replaceable(folder)
