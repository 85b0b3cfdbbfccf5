"""Scoring runs: sanity of the table, and crashes that leave no trace in it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab
from skimage.transform import resize

from ssl_colorize.colorize import gray
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, save_pretrained
from ssl_colorize.score import instruments
from ssl_colorize.score.config import ScoreSettings
from ssl_colorize.score.run import run_score

OFF = {"classifier": "none", "lpips": "none", "fid_features": "none", "workers": 0, "device": "cpu", "show": 0}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    prior = torch.rand(313) + 0.01
    pretrained = Pretrained(model=create_model("eccv16", width=0.125), input_size=32, prior=prior / prior.sum())
    save_pretrained(pretrained, folder / "model.safetensors")
    return folder


def settings(photos: Path, *methods: str, **more: Any) -> ScoreSettings:
    given = OFF | {"data": (str(photos),), "method": methods or ("truth", "gray", "random"), "size": 40} | more
    return ScoreSettings(**given)


def folder(tmp_path: Path, name: str = "out") -> Path:
    place = tmp_path / name
    place.mkdir()
    return place


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in found.items() if key != "seconds_per_photo"}
        if isinstance(found, dict)
        else found
        for name, found in metrics.items()
    }


def test_truth_is_perfect_and_gray_is_its_closed_form(photo_folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "prior.npy", np.full(313, 1 / 313))
    asked = settings(photo_folder, prior=str(tmp_path / "prior.npy"))
    metrics = run_score(asked, folder(tmp_path)).metrics
    truth, gray, random = (metrics[name] for name in ("truth", "gray", "random"))
    assert truth["auc"] == truth["auc_rebalanced"] == 1.0 and truth["ssim"] == pytest.approx(1.0, abs=1e-5)
    assert truth["psnr"] == pytest.approx(58.92)
    # 40 x 48 photos, so the crop is the middle of the photo itself.
    crops = [np.asarray(Image.open(path))[:, 4:44] for path in sorted(photo_folder.iterdir())]
    chroma = np.stack([np.hypot(*rgb2lab(crop)[..., 1:].transpose(2, 0, 1)) for crop in crops])
    wanted = np.mean(1 - np.minimum(chroma, 150) / 150)
    assert gray["auc"] == pytest.approx(wanted, abs=1e-5)
    # All colors alike, all pixels alike.
    assert gray["auc_rebalanced"] == pytest.approx(wanted, abs=1e-5)
    assert random["auc"] < 1 and gray["colorfulness"] < 2 < truth["colorfulness"]
    assert metrics["photos"] == 14 and "the prior" in metrics["rebalancing"]["prior"]
    assert set(metrics["not_measured"]) == {"classifier", "lpips", "fid"}


def test_folders_of_pictures_are_methods(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "colorless").mkdir()
    for path in photo_folder.iterdir():
        gray(path).resize((96, 80)).save(tmp_path / "colorless" / f"{path.stem}.bmp")
    np.save(tmp_path / "prior.npy", np.full(313, 1 / 313))
    asked = settings(
        photo_folder, "gray", f"same={photo_folder}", f"colorless={tmp_path / 'colorless'}",
        prior=str(tmp_path / "prior.npy"),
    )  # fmt: skip
    metrics = run_score(asked, folder(tmp_path)).metrics
    assert metrics["same"]["auc"] == metrics["same"]["auc_rebalanced"] == 1.0
    assert metrics["same"]["psnr"] == pytest.approx(58.92)
    for key in ("auc", "auc_rebalanced"):
        assert metrics["colorless"][key] == pytest.approx(metrics["gray"][key], abs=1e-5)
    assert metrics["colorless"]["psnr"] == pytest.approx(metrics["gray"]["psnr"], abs=0.01)
    assert metrics["same"]["seconds_per_photo"] is None and metrics["same"]["parameters_mb"] is None
    assert f"{photo_folder} (same), {tmp_path / 'colorless'} (colorless)" in metrics["protocol"]["folders"]
    (tmp_path / "colorless" / "photo03.bmp").unlink()
    with pytest.raises(UserError, match=r"1 missing \(photo03\.png\)"):
        run_score(asked, folder(tmp_path, "b"))


def test_a_name_that_the_metrics_hold_already_is_refused(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'protocol'"):
        run_score(settings(photo_folder, "protocol=truth"), folder(tmp_path))


def test_random_on_copies_of_one_photo_is_truth(photo_folder: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    for number in range(3):
        (copies / f"{number}.png").write_bytes((photo_folder / "photo03.png").read_bytes())
    metrics = run_score(settings(copies), folder(tmp_path)).metrics
    assert metrics["random"]["auc"] == 1.0 and metrics["gray"]["auc"] < 0.95


def test_rebalancing_is_by_the_networks_own_prior(photo_folder: Path, network: Path, tmp_path: Path) -> None:
    place = folder(tmp_path)
    metrics = run_score(settings(photo_folder, "gray", f"full={network}"), place).metrics
    assert metrics["rebalancing"]["prior"] == f"the training photos of {network}"
    assert str(network) in metrics["protocol"]["auc_rebalanced"]
    assert np.load(place / "prior.npy").shape == (313,)
    assert metrics["gray"]["auc_rebalanced"] != metrics["gray"]["auc"]
    # Of other photos, counted here; the same weights for all rows.
    counted = run_score(
        settings(photo_folder, "gray", f"full={network}", prior_data=(str(photo_folder),)), folder(tmp_path, "b")
    )
    assert "counted here" in counted.metrics["rebalancing"]["prior"]
    assert counted.metrics["gray"]["auc"] == metrics["gray"]["auc"]
    assert counted.metrics["gray"]["auc_rebalanced"] != metrics["gray"]["auc_rebalanced"]
    assert not (tmp_path / "b" / "prior").exists()


def test_without_any_prior_the_table_says_so(photo_folder: Path, tmp_path: Path) -> None:
    metrics = run_score(settings(photo_folder, "truth", "gray"), folder(tmp_path)).metrics
    assert metrics["truth"]["auc_rebalanced"] is None and "--prior" in metrics["not_measured"]["auc_rebalanced"]


def test_a_sweep_names_the_best_temperatures(photo_folder: Path, network: Path, tmp_path: Path) -> None:
    asked = settings(photo_folder, f"full={network}", temperature=(0, 0.38, 1), show=2)
    scores = run_score(asked, folder(tmp_path))
    assert scores.methods == ("full@0", "full@0.38", "full@1")
    best = scores.metrics["best_temperature"]["full"]
    assert best["auc"] == max((0.0, 0.38, 1.0), key=lambda each: scores.metrics[f"full@{each:g}"]["auc"])
    assert [len(example.pictures) for example in scores.examples] == [3, 3]
    shown = scores.examples[0]
    assert shown.photo.size == (40, 40) == shown.pictures["full@0"].size and set(shown.auc) == set(scores.methods)


@pytest.mark.parametrize("fid", ["none", "random:eccv16@0.125"])
def test_a_crash_leaves_no_trace_in_the_table(photo_folder: Path, network: Path, tmp_path: Path, fid: str) -> None:
    (photo_folder / "photo02.png").write_bytes(b"no photo")
    asked = settings(photo_folder, "truth", "random", f"full={network}", fid_features=fid, batch_size=3)
    asked = asked.model_copy(update={"checkpoint_every": 6})
    whole = run_score(asked, folder(tmp_path, "whole")).metrics

    def crash(what: str, done: int, total: int) -> None:
        if done >= 9:
            raise MemoryError("power cut")

    place = folder(tmp_path, "crashed")
    with pytest.raises(MemoryError):
        run_score(asked, place, watch=crash)
    with (place / "photos.jsonl").open("a") as file:
        file.write('{"photo": "photo09.png", "cl')
    at: list[int] = []
    again = run_score(asked, place, resume=True, watch=lambda what, done, total: at.append(done)).metrics
    # Of 9 lines the FID's sums cover 6.
    assert at[0] == (12 if fid == "none" else 9) and at[-1] == 14
    assert without_times(again) == without_times(whole)
    assert (whole["truth"]["fid"] is None) == (fid == "none")
    lines = [json.loads(line)["photo"] for line in (place / "photos.jsonl").read_text().splitlines()]
    assert lines == [f"photo{number:02}.png" for number in range(14)]
    assert (place / "unreadable.txt").read_text().count("photo02") == 1
    # Nothing is left to do, and the table is the same again.
    at.clear()
    once_more = run_score(asked, place, resume=True, watch=lambda what, done, total: at.append(done)).metrics
    assert without_times(once_more) == without_times(whole) and not at
    assert not (place / "fid.pt").exists(), "sums that nothing needs any more"


def test_sigterm_saves_and_says_how_to_go_on(photo_folder: Path, network: Path, tmp_path: Path) -> None:
    asked = settings(photo_folder, "truth", f"full={network}", batch_size=4, fid_features="random:eccv16@0.125")

    def kill(what: str, done: int, total: int) -> None:
        if done == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    place = folder(tmp_path)
    with pytest.raises(Interrupted, match="score --resume"):
        run_score(asked, place, watch=kill)
    assert len((place / "photos.jsonl").read_text().splitlines()) == 8
    resumed = run_score(asked, place, resume=True).metrics
    assert without_times(resumed) == without_times(run_score(asked, folder(tmp_path, "whole")).metrics)


def test_changed_photos_are_not_gone_on_with(photo_folder: Path, tmp_path: Path) -> None:
    place = folder(tmp_path)
    run_score(settings(photo_folder, "gray"), place)
    (photo_folder / "photo00.png").rename(photo_folder / "a.png")
    with pytest.raises(UserError, match="they changed since"):
        run_score(settings(photo_folder, "gray"), place, resume=True)
    with pytest.raises(UserError, match="Nothing to resume"):
        run_score(settings(photo_folder, "gray"), folder(tmp_path, "new"), resume=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [("start.json", "{"), ("photos.jsonl", "{\n{}\n"), ("fid.pt", "no sums"), ("photos.jsonl", "")],
)
def test_a_damaged_state_is_named(photo_folder: Path, tmp_path: Path, name: str, content: str) -> None:
    asked = settings(photo_folder, "gray", fid_features="random:eccv16@0.125", batch_size=2)

    def crash(what: str, done: int, total: int) -> None:
        if done >= 4:
            raise MemoryError("power cut")

    place = folder(tmp_path)
    with pytest.raises(MemoryError):
        run_score(asked.model_copy(update={"checkpoint_every": 2}), place, watch=crash)
    (place / name).write_text(content)
    with pytest.raises(UserError) as caught:
        run_score(asked, place, resume=True)
    assert str(place / name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_instrument_is_a_line_unless_it_was_asked_for(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def missing(*_: Any, **__: Any) -> None:
        raise UserError("the weights cannot be had")

    for name in ("load_classifier", "load_extractor", "Lpips"):
        monkeypatch.setattr(instruments, name, missing)
    usual: dict[str, Any] = {"classifier": None, "lpips": None, "fid_features": None}
    metrics = run_score(settings(photo_folder, "gray", **usual), folder(tmp_path)).metrics
    assert {metrics["not_measured"][name] for name in ("classifier", "lpips", "fid")} == {"the weights cannot be had"}
    assert metrics["gray"]["lpips"] is None and metrics["gray"]["psnr"] is not None
    for asked in ({"classifier": "timm:resnet18"}, {"lpips": "vgg"}, {"fid_features": "inception"}):
        with pytest.raises(UserError, match="cannot be had"):
            run_score(settings(photo_folder, "gray", **(usual | asked)), folder(tmp_path, f"{next(iter(asked))}"))


def test_photos_are_resized_before_they_are_judged(photo_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    metrics = run_score(settings(photo_folder, "gray", size=64), folder(tmp_path), say=said.append).metrics
    assert any("14 of 14 photos were enlarged to 64 px" in line for line in said)
    assert "center crop of 64 x 64 px" in metrics["protocol"]["photos"]
    crops = [np.asarray(Image.open(path))[:, 4:44] / 255 for path in sorted(photo_folder.iterdir())]
    large = [rgb2lab(resize(crop, (64, 64), order=3))[..., 1:] for crop in crops]
    wanted = np.mean([1 - np.hypot(ab[..., 0], ab[..., 1]).clip(max=150) / 150 for ab in large])
    assert metrics["gray"]["auc"] == pytest.approx(wanted, abs=2e-3)
