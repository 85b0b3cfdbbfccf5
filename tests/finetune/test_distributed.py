"""Two processes fine-tune as one does, at the same global batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ssl_colorize.engine.log import read_log
from ssl_colorize.finetune.building import MODEL_NAME
from ssl_colorize.finetune.classification import ClassificationSettings
from ssl_colorize.finetune.trainer import finetune
from ssl_colorize.runs import write_config

WORKER = """
import faulthandler, os, sys
from pathlib import Path
import torch
from ssl_colorize.finetune.classification import ClassificationSettings
from ssl_colorize.finetune.trainer import finetune

# Should the processes wait for each other for ever, say where.
faulthandler.dump_traceback_later(100, exit=True)
torch.set_num_threads(1)
folder = Path(sys.argv[1])
done = finetune("classification", ClassificationSettings.resolve(file=folder / "config.yaml"), folder)
assert (done is None) == (os.environ["RANK"] != "0")
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.slow
def test_two_processes_are_as_one(classes: Path, tmp_path: Path) -> None:
    settings = ClassificationSettings(
        encoder="random:eccv16@0.125", layers=("conv2",), data=(str(classes),), size=24, crop=16, batch_size=8,
        epochs=1, learning_rates=(1e-4, 1e-3), choosing=0.3, warmup=0, workers=0, device="cpu", precision="fp32",
        batchnorm="train", optimizer="sgd",
    )  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        write_config(folder, settings)
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(two)], env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    finetune("classification", settings, one)
    said = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    first, second = read_log(one), read_log(two)
    assert [row["step"] for row in first] == [row["step"] for row in second]
    for row, other in zip(first, second, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-3)
        assert other.get("holdout_top1") == row.get("holdout_top1")
    for name, value in load_file(one / MODEL_NAME).items():
        torch.testing.assert_close(load_file(two / MODEL_NAME)[name], value, rtol=1e-3, atol=1e-4, msg=name)
