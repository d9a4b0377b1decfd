"""Models that ranks left in shards, put together: for `from_pretrained`, and for what reads the runs' models."""

from __future__ import annotations

import tempfile
from pathlib import Path

from safetensors import SafetensorError

from toremi_cli.errors import TrainingError, reason
from toremi_cli.files import remove_temporaries_in
from toremi_cli.runs.checkpoints import Checkpoint, is_in_shards
from toremi_cli.train import checkpoint as ckpt
from toremi_cli.train.model import empty_model
from toremi_cli.train.shards import Shards


def put_together(checkpoints: list[Checkpoint]) -> None:
    """Write the whole model into every checkpoint that has it in shards alone.

    Raises:
        TrainingError: a shard is missing or damaged, or the disk is full.
    """
    for folder in (checkpoint.folder for checkpoint in checkpoints if is_in_shards(checkpoint.folder)):
        model = empty_model(folder)
        ckpt.restore_model(model, Shards(folder, int(ckpt.load_state(folder)["num_shards"])))
        remove_temporaries_in(folder)
        try:
            with tempfile.TemporaryDirectory(prefix=".model.tmp-", dir=folder) as temporary:
                model.save_pretrained(temporary)  # type: ignore[operator]
                # An index comes last: what it names is there then.
                for path in sorted(Path(temporary).iterdir(), key=lambda path: path.suffix == ".json"):
                    path.replace(folder / path.name)
        except (OSError, SafetensorError) as problem:
            raise TrainingError(f"{folder}: cannot write the model ({reason(problem)}); make room") from None
