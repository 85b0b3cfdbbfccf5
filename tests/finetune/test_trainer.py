"""Whole runs of a few steps: what is chosen and how, what is read once, and going on as if never stopped."""

import math
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ssl_colorize.data import read_photo
from ssl_colorize.engine.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, save_checkpoint
from ssl_colorize.engine.log import read_log
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.errors import UserError
from ssl_colorize.finetune import building
from ssl_colorize.finetune.building import MODEL_NAME, load_finetuned
from ssl_colorize.finetune.classification import Classification, ClassificationSettings
from ssl_colorize.finetune.trainer import Finished, finetune


@pytest.fixture
def settings(classes: Path) -> ClassificationSettings:
    return ClassificationSettings(
        encoder="random:eccv16@0.125", layers=("conv2",), data=(str(classes),), size=24, crop=16, batch_size=8,
        epochs=2, learning_rates=(1e-3, 0.03), choosing=0.3, warmup=0, workers=0, device="cpu", precision="fp32",
        optimizer="sgd", dropout=0.2, checkpoint_every=100,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def few_small_photos_to_prepare_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_RESCALE_PHOTOS", 2)
    monkeypatch.setattr(building, "_SIDE", 24)


def changed(settings: ClassificationSettings, **values: Any) -> ClassificationSettings:
    return ClassificationSettings.checked(settings.model_dump() | values)


def run(settings: ClassificationSettings, folder: Path, *, resume: bool = False) -> Finished:
    folder.mkdir(exist_ok=True)
    done = finetune("classification", settings, folder, resume=resume)
    assert done is not None
    return done


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    return [{key: value for key, value in row.items() if key != "photos_per_second"} for row in read_log(folder)]


def without_time(done: Finished) -> dict[str, Any]:
    return {key: value for key, value in done.metrics.items() if key != "seconds"}


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Any) -> None:
    """Do something to the losses of the step after `step` steps of the whole run."""
    original, taken = Classification.loss, iter(range(10**6))

    def hooked(*arguments: Any) -> dict[str, Tensor]:
        losses = original(*arguments)
        return (action(losses) or losses) if next(taken) == step else losses

    monkeypatch.setattr(Classification, "loss", hooked)


def interrupt(_: object) -> None:
    signal.raise_signal(signal.SIGTERM)


def test_what_a_run_does_and_writes(
    settings: ClassificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[Any] = []
    trained: list[Any] = []
    original, batches = Classification.evaluate, Classification.batches

    def evaluate(self: Any, model: Any, indices: Any, **options: Any) -> Any:
        evaluated.append(None if indices is None else set(indices.tolist()))
        return original(self, model, indices, **options)

    def spied(self: Any, indices: Any, **options: Any) -> Any:
        trained.append(set(indices.tolist()))
        return batches(self, indices, **options)

    monkeypatch.setattr(Classification, "evaluate", evaluate)
    monkeypatch.setattr(Classification, "batches", spied)
    done = run(settings, tmp_path / "run")

    # Two rates of two epochs each, then all photos; the test photos once, at the end.
    fit, choose = trained[0], evaluated[0]
    assert trained == [fit, fit, set(range(24))] and evaluated == [choose] * 4 + [None]
    assert not fit & choose and fit | choose == set(range(24))

    log = read_log(tmp_path / "run")
    # 16 photos to fit on, 8 a step: four steps a trial; then 24, six for two epochs.
    looks = [(row["trial"], row["epoch"], row["holdout_top1"]) for row in log if "holdout_top1" in row]
    assert [row["trial"] for row in log][:8] == [0] * 4 + [1] * 4
    assert [look[:2] for look in looks] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    # Of equal figures the longer training counts, then the lower rate.
    best = max(looks, key=lambda look: (look[2], look[1], -look[0]))
    metrics = done.metrics
    assert metrics["choosing"] == best[2] and metrics["learning_rate"] == (1e-3, 0.03)[best[0]]
    assert metrics["epochs"] == best[1] and metrics["steps"] == 3 * best[1]
    assert [row["step"] for row in log] == list(range(1, 9 + metrics["steps"]))
    assert metrics["photos"] == {"train": 24, "choosing": 8, "test": 12} and metrics["refit"] is True
    assert [trial["learning_rate"] for trial in metrics["trials"]] == [1e-3, 0.03]
    assert 0 <= metrics["low"] <= metrics["top1"] <= metrics["high"] <= 1
    assert list((tmp_path / "run").glob("events.out.tfevents*"))
    # Nothing is left that only a run under way needs.
    assert not (tmp_path / "run" / CHECKPOINT_NAME).exists() and not list((tmp_path / "run").glob(".*"))


def test_it_learns(settings: ClassificationSettings, tmp_path: Path) -> None:
    done = run(changed(settings, epochs=6, learning_rates=(0.03,)), tmp_path / "run")
    assert done.metrics["top1"] == 1.0


def test_without_refit_the_best_look_is_judged(settings: ClassificationSettings, tmp_path: Path) -> None:
    done = run(changed(settings, refit=False), tmp_path / "run")
    assert done.metrics["refit"] is False and done.metrics["photos"]["train"] == 16
    assert len(read_log(tmp_path / "run")) == 8
    # The model that was kept gives the figure that it was chosen by.
    task = Classification.open(settings, say=lambda line: None)
    model = load_finetuned(tmp_path / "run").model
    task.build(model.backbone)
    _, choose = task.split(fraction=settings.choosing, seed=settings.seed)
    found = task.evaluate(model, choose, autocast=nullcontext).figures["top1"]
    assert found == done.metrics["choosing"]


def test_nothing_to_choose(settings: ClassificationSettings, tmp_path: Path) -> None:
    done = run(changed(settings, choose_length=False, learning_rates=(0.01,)), tmp_path / "run")
    assert done.metrics["choosing"] is None and done.metrics["trials"] == []
    assert done.metrics["photos"] == {"train": 24, "choosing": 0, "test": 12} and done.metrics["steps"] == 6
    assert not any("holdout_top1" in row for row in read_log(tmp_path / "run"))


def test_every_rate_begins_with_the_same_model(settings: ClassificationSettings, tmp_path: Path) -> None:
    run(settings, tmp_path / "run")
    log = read_log(tmp_path / "run")
    assert log[0]["loss"] == log[4]["loss"]


def test_the_same_settings_give_the_same_run_and_another_seed_another(
    settings: ClassificationSettings, tmp_path: Path
) -> None:
    short = changed(settings, learning_rates=(0.01,), epochs=1)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(changed(short, seed=seed), tmp_path / name)
    assert rows(tmp_path / "a") == rows(tmp_path / "b") != rows(tmp_path / "c")


def test_a_rate_that_blows_up_is_out_of_the_choice(
    settings: ClassificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first step of the second rate.
    at_step(monkeypatch, 4, lambda losses: losses | {"loss": losses["loss"] * torch.nan})
    done = run(settings, tmp_path / "run")
    assert done.metrics["learning_rate"] == 1e-3
    assert done.metrics["trials"][0]["choosing"] == done.metrics["choosing"]
    assert done.metrics["trials"][1]["learning_rate"] == 0.03 and done.metrics["trials"][1]["choosing"] is None
    assert all(math.isfinite(row["loss"]) for row in read_log(tmp_path / "run"))


def test_all_rates_blow_up(settings: ClassificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 0, lambda losses: losses | {"loss": losses["loss"] * torch.nan})
    with pytest.raises(UserError, match=r"No learning rate of 0\.03 gave a figure"):
        run(changed(settings, learning_rates=(0.03,)), tmp_path / "run")


@pytest.mark.parametrize(
    ("step", "values"),
    [
        (1, {}),  # in the first trial
        (5, {"optimizer": "adamw", "batchnorm": "train", "color": True}),  # in the second
        (9, {"rescale": True, "batchnorm": "fold"}),  # in the final training
        (6, {"refit": False}),
        (6, {"optimizer": "muon", "head_factor": 2.0}),
    ],
    ids=["first", "second", "final", "kept", "muon"],
)
def test_a_stopped_run_goes_on_to_the_bit(
    settings: ClassificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, values: dict[str, Any]
) -> None:
    settings = changed(settings, **values)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = run(settings, whole)
    with monkeypatch.context() as patch:
        at_step(patch, step, interrupt)
        said = f"after step {step + 1}; saved. Go on with: ssl-colorize finetune classification --resume {parts}"
        with pytest.raises(Interrupted, match=said) as stopped:
            run(settings, parts)
    assert stopped.value.signum == signal.SIGTERM
    # Whatever happened to the random numbers of this process meanwhile.
    torch.manual_seed(123)
    done = run(settings, parts, resume=True)
    assert rows(parts) == rows(whole)
    assert without_time(done) == without_time(expected)
    first, second = load_file(whole / MODEL_NAME), load_file(parts / MODEL_NAME)
    assert first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_killed_run_does_its_last_steps_again(
    settings: ClassificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(settings, checkpoint_every=2)
    run(settings, tmp_path / "whole")

    def die(_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        at_step(patch, 7, die)
        with pytest.raises(MemoryError):
            run(settings, tmp_path / "parts")
    # The log is further than the checkpoint: after step 2 of the second trial.
    saved = load_checkpoint(tmp_path / "parts", "finetune")
    assert (saved.extra["trial"], saved.step, saved.extra["logged"]) == (1, 2, 4)
    assert [row["step"] for row in read_log(tmp_path / "parts")] == list(range(1, 8))
    run(settings, tmp_path / "parts", resume=True)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_nothing_to_resume(settings: ClassificationSettings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Nothing to resume"):
        run(settings, tmp_path / "run", resume=True)


def test_a_state_that_cannot_be_gone_on_with_is_told(settings: ClassificationSettings, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT_NAME).write_bytes(b"half a file")
    with pytest.raises(UserError, match=rf"{CHECKPOINT_NAME} is damaged and cannot be resumed"):
        run(settings, tmp_path, resume=True)
    save_checkpoint(Checkpoint("pretrain", 3), tmp_path)
    with pytest.raises(UserError, match="is of `ssl-colorize pretrain`, which alone can go on with it"):
        run(settings, tmp_path, resume=True)


def test_the_saved_model_needs_no_encoder_and_says_the_same(
    settings: ClassificationSettings, classes: Path, tmp_path: Path
) -> None:
    done = run(changed(settings, rescale=True, batchnorm="fold", color=True), tmp_path / "run")
    loaded = load_finetuned(tmp_path / "run")
    assert loaded.task.classes == ("dark", "light") and loaded.training["top1"] == done.metrics["top1"]
    kept, probabilities = done.evaluated.details
    photos = sorted((classes / "test").glob("*/*.png"))
    for place, index in enumerate(kept[:4]):
        said = loaded.task.predict(loaded.model, read_photo(photos[index]))
        expected = dict(zip(("dark", "light"), probabilities[place], strict=True))
        assert said.result["scores"] == pytest.approx(expected, abs=1e-3)
        assert said.result["labels"] == [max(expected, key=lambda name: expected[name])]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"layers": ("conv9",)}, "no layer 'conv9'"),
        ({"train_from": "conv5"}, "train_from: no layer 'conv5'"),
        ({"encoder": "nothing"}, "No encoder 'nothing'"),
        ({"crop": 32}, "A crop of 32 px does not fit in photos resized to 24 px"),
        (
            {"encoder": "random:timm-rgb:resnet10t", "layers": (), "rescale": True, "batchnorm": "fold"},
            "are for our networks",
        ),
        ({"multilabel": True}, "these photos have one label each"),
    ],
)
def test_what_cannot_be_done_is_told(
    settings: ClassificationSettings, tmp_path: Path, values: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as error:
        run(changed(settings, **values), tmp_path / "run")
    assert "\n" not in str(error.value)


def test_a_damaged_or_foreign_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No fine-tuned model"):
        load_finetuned(tmp_path)
    (tmp_path / MODEL_NAME).write_bytes(np.zeros(100).tobytes())
    with pytest.raises(UserError, match=MODEL_NAME):
        load_finetuned(tmp_path)
