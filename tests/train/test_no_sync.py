"""Nothing in a step waits for the device."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.train.both_ranks import config
from toremi_cli.reweight import POLICIES
from toremi_cli.train.device import make_accelerator
from toremi_cli.train.loader import prefetch
from toremi_cli.train.loop import set_learning_rate, train_step
from toremi_cli.train.run import assemble
from toremi_cli.train.worker import open_run_cache

WAITS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "unique")
"""Operations that give the host a number, or a shape, that only the device knows."""
NO_TABLES = {"frozen", "shearing"}
"""Policies that need another run's table; in a step they are like the others."""


class NoWaiting(TorchDispatchMode):
    """Fails at an operation that waits for a device, if the tensors were on one."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in WAITS, f"{name} waits for the device"
        return function(*args, **(kwargs or {}))


@contextmanager
def no_sync(device):
    """On a GPU torch itself watches; elsewhere the operations are looked at."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        with NoWaiting():
            yield


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        *((name, {}) for name in POLICIES if name not in NO_TABLES),
        ("toremi", {"sensitivity": True, "optimizer": "muon"}),
        ("toremi-2", {"sensitivity": True, "mask_documents": True, "gradient_checkpointing": True}),
        ("toremi-2", {"loss_average": "token", "chunked_loss": True, "grad_clip": 0.0}),
    ],
)
def test_a_step_waits_for_nothing(workdir, policy, settings):
    values = {"reference_losses": "", "gpus": -1, "micro_batch": 3, **settings}
    run_config = config(workdir, policy, "no-sync", **values)
    run, _ = assemble(
        run_config, make_accelerator(run_config, workdir), open_run_cache(run_config, build=True), resume=False
    )
    batches = prefetch(run.builder, range(20), lambda step: True)
    set_learning_rate(run, 1.0)
    for step in range(7):
        run.step = step  # past the burn-in of linupper
        if step % run_config.log_every == 0:
            run.window.reset()
        batch = next(batches)
        if step < 2:
            train_step(run, batch)  # the optimizer makes its state
            continue
        with no_sync(run.device):
            train_step(run, batch)
