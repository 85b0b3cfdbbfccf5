"""Checkpoints and logs that survive crashes and full disks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_colorize.engine.checkpoint import FORMAT, Checkpoint, load_checkpoint, restore, save_checkpoint
from ssl_colorize.engine.log import RunLog, read_log, rewind_log
from ssl_colorize.errors import UserError

resource = pytest.importorskip("resource", reason="file size limits are POSIX")


def made(step: int, *, numbers: int = 10) -> Checkpoint:
    weight = torch.randn(numbers, generator=torch.Generator().manual_seed(step)).requires_grad_()
    optimizer = torch.optim.Adam([weight], betas=(0.9, 0.99))
    weight.sum().backward()
    optimizer.step()
    state = {"weight": weight.detach()}
    extra = {"counts": torch.rand(313), "figures": {"loss": 1.5}}
    return Checkpoint("pretrain", step, state, optimizer.state_dict(), state, 12.5, extra)


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return one == other


def test_everything_comes_back(tmp_path: Path) -> None:
    saved = made(7)
    save_checkpoint(saved, tmp_path)
    assert same(vars(load_checkpoint(tmp_path, "pretrain")), vars(saved))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.fixture
def small_files_only() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, small_files_only: None) -> None:
    save_checkpoint(made(3), tmp_path)
    with pytest.raises(UserError, match=r"Cannot write .*checkpoint\.pt: .* untouched") as error:
        save_checkpoint(made(4, numbers=100_000), tmp_path)
    assert "\n" not in str(error.value)
    assert same(load_checkpoint(tmp_path, "pretrain").model, made(3).model)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Nothing to resume: .* holds no checkpoint\.pt"):
        load_checkpoint(tmp_path, "pretrain")


def test_damaged_checkpoints_are_told_in_one_line(tmp_path: Path) -> None:
    save_checkpoint(made(3), tmp_path)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"checkpoint\.pt is damaged and cannot be resumed: .") as error:
            load_checkpoint(tmp_path, "pretrain")
        assert "\n" not in str(error.value)
    for other in ({"step": 3}, [1, 2], {"format": FORMAT, "kind": "pretrain", "step": 3, "extra": 5}):
        torch.save(other, path)
        with pytest.raises(UserError, match="damaged"):
            load_checkpoint(tmp_path, "pretrain")


def test_another_kind_of_run_and_a_newer_version_are_told(tmp_path: Path) -> None:
    save_checkpoint(made(3), tmp_path)
    with pytest.raises(UserError, match=r"checkpoint\.pt is of `ssl-colorize pretrain`, which alone can go on with it"):
        load_checkpoint(tmp_path, "finetune")
    torch.save({"format": FORMAT + 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=f"is of format {FORMAT + 1}, this version reads up to {FORMAT}: update"):
        load_checkpoint(tmp_path, "pretrain")


def test_a_state_that_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    line = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(line.parameters())
    restore(Checkpoint("pretrain", 0), tmp_path, model=line, optimizer=optimizer)
    with pytest.raises(UserError, match=r"checkpoint\.pt does not fit the run, which cannot go on: .*weight") as error:
        restore(made(3), tmp_path, model=line, optimizer=optimizer)
    assert "\n" not in str(error.value)
    save_checkpoint(made(3), tmp_path)
    with pytest.raises(UserError, match=r"damaged and cannot be resumed: it lacks statistics"):
        load_checkpoint(tmp_path, "pretrain", extra=("figures", "statistics"))


def test_a_file_of_before_is_mapped(tmp_path: Path) -> None:
    torch.save({"at": 7, "weights": {"weight": torch.ones(2)}}, tmp_path / "state.pt")

    def today(content: dict[str, Any]) -> dict[str, Any]:
        return {"step": content["at"], "model": content["weights"]}

    found = load_checkpoint(tmp_path, "probe", name="state.pt", from_format_1=today)
    assert same(vars(found), vars(Checkpoint("probe", 7, {"weight": torch.ones(2)})))


def test_a_log_is_rewound_to_the_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    rows = [{"step": step, "loss": step / 3} for step in range(1, 7)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 7, "lo')
    assert read_log(tmp_path) == rows
    rewind_log(tmp_path, 4)
    assert read_log(tmp_path) == rows[:4] and log.read_text().count("\n") == 4
    rewind_log(tmp_path, 0)
    assert log.read_text() == ""


def test_without_a_log_there_are_no_rows(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
    rewind_log(tmp_path, 0)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_log_on_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    # The error must come through the closing of the log, whose buffer still cannot be written.
    told = pytest.raises(UserError, match=r"Cannot write /dev/full: No space left on device.*--resume")
    with told, RunLog(tmp_path, 0) as log:
        assert log.file is not None
        log.file.close()
        log.file = Path("/dev/full").open("a", encoding="utf-8")  # noqa: SIM115
        log.write(1, {"loss": 1.0})


def test_only_the_first_process_logs(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0, quiet=True) as log:
        log.write(1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
