"""A stopped run over photos that are no longer the same: refused, or gone on with and nothing leaks."""

import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ssl_colorize.engine.checkpoint import load_checkpoint
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.classification import Classification, ClassificationSettings
from ssl_colorize.finetune.trainer import finetune


def add(folder: Path, numbers: range) -> None:
    for name, light in (("bright", 200), ("dark", 50)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.new("RGB", (24, 24), (light + number, light, light)).save(folder / name / f"{number}.png")


def run(data: Path, folder: Path, *, resume: bool = False, stop: bool = False, **values: Any) -> list[str]:
    """Fine-tune, perhaps until a SIGTERM in the second step; what was said."""
    settings = ClassificationSettings(
        encoder="random:eccv16@0.1", layers=("conv2",), data=(str(data),), size=24, crop=16, batch_size=4,
        steps=3, epochs=None, learning_rates=(1e-3, 1e-2), choosing=0.3, warmup=0, workers=0, device="cpu",
        precision="fp32", checkpoint_every=1, **values,
    )  # fmt: skip
    said: list[str] = []
    folder.mkdir(exist_ok=True)
    original, taken = Classification.loss, iter(range(10**6))

    def loss(*arguments: Any) -> Any:
        if stop and next(taken) == 1:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classification, "loss", loss)
        if stop:
            with pytest.raises(Interrupted):
                finetune("classification", settings, folder, resume=resume, say=said.append)
        else:
            finetune("classification", settings, folder, resume=resume, say=said.append)
    return said


def parts(folder: Path) -> dict[str, set[int]]:
    kept = load_checkpoint(folder, "finetune").extra["photos"]
    return {name: set(values[:, 0].tolist()) for name, values in kept.items()}


def test_a_run_goes_on_with_other_photos_only_when_told_and_then_without_a_leak(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    add(data, range(10))
    run(data, folder, stop=True)
    before = parts(folder)
    assert [len(before[name]) for name in ("fit", "choose", "test")] == [12, 4, 4]
    add(data, range(10, 40))
    with pytest.raises(UserError, match=r"60 added.*data_changed=allow"):
        run(data, folder, resume=True)
    assert parts(folder) == before, "nothing is lost"
    said = run(data, folder, resume=True, stop=True, data_changed="allow")
    assert any("The photos have changed (60 added" in line for line in said)
    now = parts(folder)
    learned = before["fit"] | before["choose"]
    assert not now["test"] & learned and not (now["fit"] | now["choose"]) & before["test"]
    assert now["choose"] >= before["choose"] - now["test"] and not now["choose"] & before["fit"]
    # The photos that there are now are those of the run: it ends without being asked again.
    assert not any("changed" in line for line in run(data, folder, resume=True))


def test_labels_that_changed_are_other_photos(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    add(data, range(10))
    run(data, folder, stop=True)
    (data / "bright").rename(data / "light")
    with pytest.raises(UserError, match=r"10 added, 10 removed"):
        run(data, folder, resume=True)
    (data / "light").rename(data / "bright")
    assert not any("changed" in line for line in run(data, folder, resume=True))
