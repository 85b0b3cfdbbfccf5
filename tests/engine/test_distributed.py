"""Two processes train as one does, at the same global batch."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from ssl_colorize.engine.checkpoint import load_checkpoint
from ssl_colorize.engine.distributed import (
    GlobalBatchNorm2d,
    GlobalBatchNormAct2d,
    Processes,
    processes,
    synchronized,
)
from ssl_colorize.engine.log import read_log
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train

# So low that rounding stays rounding: Adam's steps are as long for a tiny gradient as for a large one, and a relative
# change of 1e-7 of the weights alone turns the gradients of this tiny network by 10 % within three steps at 1e-4.
RATE = 1e-6

# What each process does: its half of a batch through the normalization, then a whole run.
WORKER = """
import faulthandler, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.engine.distributed import GlobalBatchNorm2d, Processes
from ssl_colorize.pretrain.loop import train

# Should the processes wait for each other for ever, say where.
faulthandler.dump_traceback_later(100, exit=True)
torch.set_num_threads(1)
folder = Path(sys.argv[1])
rank = int(os.environ["RANK"])
# Through a file: torchrun's own meeting place is for the group of the run below.
dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
group = Processes(rank, 2, rank)
x, weighting = torch.load(folder / "batch.pt")
half = slice(3 * group.rank, 3 * group.rank + 3)
norm = GlobalBatchNorm2d(4)
norm.load_state_dict(torch.load(folder / "norm.pt"))
mine = x[half].clone().requires_grad_()
out = norm(mine)
# Each process has its own half of one loss.
(out * weighting[half]).sum().backward()
for parameter in norm.parameters():
    dist.all_reduce(parameter.grad)
result = {"out": out.detach(), "gradient": mine.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
result |= {"state": norm.state_dict(), "any": [group.any(group.rank == 1), group.any(False)]}
result |= {"mean": group.mean(torch.tensor([1.0 + group.rank]))}
torch.save(result, folder / f"rank{group.rank}.pt")
dist.destroy_process_group()
content = train(Recipe.resolve(file=folder / "recipe.yaml"), folder / "run")
assert bool(content) == (os.environ["RANK"] == "0")
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a batch for the normalization."""
    folder = tmp_path_factory.mktemp("distributed")
    generator = torch.Generator().manual_seed(0)
    # The halves have means and spreads of their own, so that normalizing each alone would show.
    x = torch.randn(6, 4, 3, 5, generator=generator) * torch.linspace(0.5, 3, 6).view(6, 1, 1, 1)
    x[3:] += 2
    torch.save((x, torch.randn(x.shape, generator=generator)), folder / "batch.pt")
    norm = nn.BatchNorm2d(4)
    norm.weight.data.uniform_(0.5, 2, generator=generator)
    norm.bias.data.normal_(generator=generator)
    norm.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
    torch.save(norm.state_dict(), folder / "norm.pt")
    return folder


@pytest.fixture
def recipe(photo_folder: Path) -> Recipe:
    return Recipe(
        data=(str(photo_folder),), resize=(32, 40), crop=32, holdout=0.2, width=0.125, init="lsuv", init_photos=8,
        prior_photos=16, batch_size=4, steps=6, warmup=0, learning_rate=RATE, evaluate_every=3, checkpoint_every=3,
        workers=0, device="cpu", precision="fp32",
    )  # fmt: skip


@pytest.fixture
def two(made: Path, recipe: Recipe) -> Path:
    (made / "recipe.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    (made / "run").mkdir(exist_ok=True)
    (made / "worker.py").write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    process = subprocess.Popen(
        [*launch, "--master_port", str(free_port()), str(made / "worker.py"), str(made)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode == 0, said[-3000:]
    assert "Warning" not in said, said[-3000:]
    return made


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.slow
def test_two_processes_are_one(two: Path, recipe: Recipe, tmp_path: Path) -> None:
    check_normalization(two)
    one = tmp_path / "one"
    one.mkdir()
    train(recipe, one)
    log, expected = read_log(two / "run"), read_log(one)
    assert [row["step"] for row in log] == [row["step"] for row in expected] == list(range(1, 7))
    for row, wanted in zip(log, expected, strict=True):
        for name in ("loss", "cross_entropy", "kl", "learning_rate"):
            assert row[name] == pytest.approx(wanted[name], abs=1e-4), (row["step"], name)
        assert row.get("holdout_loss", 0) == pytest.approx(wanted.get("holdout_loss", 0), abs=2e-3)
    ours, wanted_end = load_checkpoint(two / "run", "pretrain"), load_checkpoint(one, "pretrain")
    for name, value in wanted_end.model.items():
        # Weights have moved by six steps of about RATE, running statistics by the photos.
        limit = 1e-4 if "running" in name else 0.5 * RATE
        assert (ours.model[name].float() - value.float()).abs().mean() < limit, name
    for index, state in wanted_end.optimizer["state"].items():
        gradient, wanted_gradient = ours.optimizer["state"][index]["exp_avg"], state["exp_avg"]
        assert (gradient - wanted_gradient).norm() < 0.1 * wanted_gradient.norm(), index
    assert sorted(path.name for path in (two / "run").iterdir() if "tfevents" not in path.name) == [
        "checkpoint.pt", "config.yaml", "metrics.json", "metrics.jsonl", "model.safetensors",
    ]  # fmt: skip


def check_normalization(folder: Path) -> None:
    """Each half came out as it would from BatchNorm over both."""
    x, weighting = torch.load(folder / "batch.pt")
    x.requires_grad_()
    norm = nn.BatchNorm2d(4)
    norm.load_state_dict(torch.load(folder / "norm.pt"))
    out = norm(x)
    (out * weighting).sum().backward()
    for rank in (0, 1):
        result = torch.load(folder / f"rank{rank}.pt")
        half = slice(3 * rank, 3 * rank + 3)
        assert torch.allclose(result["out"], out[half], atol=1e-5)
        assert torch.allclose(result["gradient"], x.grad[half], atol=1e-5)
        assert torch.allclose(result["weight"], norm.weight.grad, atol=1e-4)  # type: ignore[arg-type]
        assert torch.allclose(result["bias"], norm.bias.grad, atol=1e-4)  # type: ignore[arg-type]
        for name, value in norm.state_dict().items():
            assert torch.allclose(result["state"][name], value, atol=1e-5), name
        assert result["any"] == [True, False] and result["mean"].item() == 1.5


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes("cpu") as group:
        assert group == Processes(0, 1, 0) and group.first
        assert group.any(True) and not group.any(False)
        assert torch.equal(group.mean(torch.ones(2)), torch.ones(2))


def test_a_synchronized_network_keeps_its_names_and_evaluates_alike() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4, affine=False))
    model(torch.randn(3, 1, 8, 8))
    before, x = model.eval()(torch.ones(1, 1, 8, 8)), torch.ones(1, 1, 8, 8)
    keys = list(model.state_dict())
    changed = synchronized(model, "cpu")
    assert list(changed.state_dict()) == keys
    assert sum(isinstance(module, GlobalBatchNorm2d) for module in changed.modules()) == 2
    assert torch.equal(changed.eval()(x), before)


def test_timms_norms_keep_their_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 8, 8)
    plain, shared = BatchNormAct2d(4), BatchNormAct2d(4)
    assert isinstance(synchronized(nn.Sequential(shared), "cpu")[0], GlobalBatchNormAct2d)
    # One process alone.
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: None)
    torch.testing.assert_close(shared(x), plain(x))
    assert shared(x).min() == 0 and list(shared.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(shared.running_var, plain.running_var, rtol=0.2, atol=0)
    assert torch.equal(shared.eval()(x), shared.act(nn.BatchNorm2d.forward(shared, x)))
    converted = synchronized(nn.Sequential(BatchNormAct2d(4)), "cuda")[0]
    assert isinstance(converted, nn.SyncBatchNorm) and isinstance(converted.act, nn.ReLU)
