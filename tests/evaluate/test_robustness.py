"""Fits judged once more: by the very head that was chosen, on the very photos, with paired intervals."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_colorize.data import open_dataset
from ssl_colorize.encoder import load_encoder
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import (
    KnnSettings,
    Predictions,
    ProbeSettings,
    bootstrap,
    extract,
    knn_predict,
    mean_average_precision,
    run_knn,
    run_linear_probe,
    top_k_accuracy,
)
from ssl_colorize.evaluate.corruptions import CORRUPTIONS
from ssl_colorize.evaluate.robustness import conditions, summarize_further

SOURCE = "random:eccv16@0.125"


def draw(folder: Path, count: int, chance: np.random.Generator) -> None:
    """Stripes that lie or stand, in colors."""
    for number, name in enumerate(("lying", "standing")):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            wave = 127 + 90 * np.sin(np.arange(24) * chance.uniform(0.8, 1.2) + chance.uniform(0, 6))
            light = np.tile(wave, (24, 1)) if number else np.tile(wave[:, None], (1, 24))
            pixels = light[..., None] * chance.uniform(0.3, 1, 3) + chance.normal(0, 20, (24, 24, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{index}.png")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, chance = tmp_path_factory.mktemp("striped"), np.random.default_rng(0)
    draw(folder / "data" / "train", 12, chance)
    draw(folder / "data" / "test", 6, chance)
    draw(folder / "more", 5, chance)
    return folder


def common(folders: Path) -> dict[str, object]:
    return {
        "encoder": SOURCE, "data": (str(folders / "data"),), "layers": ("conv1", "conv2"), "resize": 16,
        "batch_size": 5, "workers": 0, "random": False, "device": "cpu", "no_cache": True,
    }  # fmt: skip


@pytest.mark.parametrize("engine", ["sgd", "ridge"])
def test_the_test_photos_as_a_further_set_get_their_own_figures(folders: Path, engine: str, tmp_path: Path) -> None:
    heads = ("linear", "all-layers", "attentive") if engine == "sgd" else ("linear", "all-layers")
    settings = ProbeSettings(
        **common(folders), engine=engine, heads=heads, steps=8, numbers=128,
        also=(f"same={folders / 'data' / 'test'}", f"more={folders / 'more'}"), corrupt=True, severities=(5,),
    )  # fmt: skip
    found = run_linear_probe(settings, tmp_path)
    plain = run_linear_probe(settings.model_copy(update={"also": (), "corrupt": False}), tmp_path)
    for name, one in plain.items():
        if name != "trunk_unchanged":
            assert found[name].items() >= one.items()
            assert found[name]["also"]["same"]["top1"] == one["top1"] and found[name]["also"]["same"]["photos"] == 12
            assert found[name]["also"]["more"]["photos"] == 10
            worse = found[name]["corrupt"]
            assert list(worse) == list(CORRUPTIONS) and list(worse["noise"]) == ["5", "mean"]
            assert list(worse["gray"]) == ["1", "mean"]
            # What keeps lightness is the same photo to a lightness network, but for rounding.
            assert abs(worse["hue"]["mean"]["drop"]) <= 1 / 12 + 1e-9
            for each in worse.values():
                assert each["mean"]["drop"] == pytest.approx(one["top1"] - each["mean"]["top1"])


def test_a_stopped_run_goes_on_with_what_was_judged(folders: Path, tmp_path: Path) -> None:
    settings = ProbeSettings(
        **common(folders), steps=4, numbers=64, seeds=2, also=(f"more={folders / 'more'}",), corrupt=True,
        severities=(3,),
    )  # fmt: skip
    whole = run_linear_probe(settings, tmp_path)
    steps = 0

    def stop(what: str, done: int, total: int) -> None:
        nonlocal steps
        steps += what == "Training the heads"
        if steps == 6:  # of the second seed
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run_linear_probe(settings, tmp_path, watch=stop)
    again = run_linear_probe(settings, tmp_path, resume=True)
    assert json.dumps(again, sort_keys=True) == json.dumps(whole, sort_keys=True)
    assert len(whole["conv1"]["also"]["more"]["runs"]) == 2


def test_neighbors_vote_for_further_sets(folders: Path) -> None:
    settings = KnnSettings(
        **common(folders), k=(1, 3), also=(f"more={folders / 'more'}",), corrupt=True, severities=(1, 5)
    )
    found = run_knn(settings).metrics
    train, _ = open_dataset([str(folders / "data")])
    _, more = open_dataset(train=[str(folders / "data" / "train")], test=[str(folders / "more")])
    encoder = load_encoder(SOURCE)
    bank, queries = (extract(encoder, part.photos, resize=16).features["conv2"] for part in (train, more))
    for k in (1, 3):
        expected = top_k_accuracy(knn_predict(bank, train.labels, queries, k=k), more.labels)
        assert found["conv2"][f"k{k}_t0.07"]["also"]["more"]["top1"] == pytest.approx(expected)
        assert list(found["conv2"][f"k{k}_t0.07"]["corrupt"]["blur"]) == ["1", "5", "mean"]
    with pytest.raises(UserError, match="--leave-one-out reads none"):
        run_knn(settings.model_copy(update={"leave_one_out": True}))


def test_a_photo_of_a_further_set_that_cannot_be_read_is_told(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "more", tmp_path / "more")
    (tmp_path / "more" / "lying" / "broken.png").write_bytes(b"no photo")
    told: list[str] = []
    settings = KnnSettings(**common(folders), also=(f"more={tmp_path / 'more'}",), k=(1,))
    found = run_knn(settings, say=told.append).metrics
    assert found["conv1"]["k1_t0.07"]["also"]["more"]["photos"] == 10
    assert any("more: left out, as it cannot be read" in line and "broken.png" in line for line in told)


def test_intervals_are_of_the_paired_bootstrap() -> None:
    chance = np.random.default_rng(0)
    truth = np.zeros(300, np.int64)
    clean = Predictions(truth, ranks=(chance.random(300) > 0.8).astype(np.int64))
    worse = [Predictions(truth, ranks=np.maximum(clean.ranks, chance.random(300) > 0.9)) for _ in range(2)]
    found = summarize_further(
        [clean], [{("noise", "1"): worse[0], ("noise", "5"): worse[1]}], ("one",), seed=3
    )["corrupt"]["noise"]  # fmt: skip
    right = [each.ranks == 0 for each in (clean, *worse)]
    lost = right[0].astype(float) - (right[1].astype(float) + right[2]) / 2
    assert found["mean"]["drop"] == pytest.approx(lost.mean())
    expected = bootstrap(lambda rows: lost[rows].mean(), 300, seed=3)
    assert (found["mean"]["drop_low"], found["mean"]["drop_high"]) == pytest.approx(expected, abs=3e-3)
    # All that is lost is lost of photos that were right: unpaired, the interval would be wider by far.
    assert found["1"]["drop_low"] > 0


def test_several_labels_have_drops_of_their_mean_average_precision() -> None:
    chance = np.random.default_rng(0)
    truth = (chance.random((80, 3)) > 0.6).astype(np.int8)
    scores = [truth + chance.normal(0, spread, truth.shape) for spread in (0.5, 2.0)]
    clean, worse = (Predictions.of(each, truth) for each in scores)
    found = summarize_further([clean], [{("blur", "2"): worse}], ("a", "b", "c"), seed=0)["corrupt"]["blur"]["2"]
    values = [mean_average_precision(each, truth) for each in scores]
    assert found["map"] == pytest.approx(values[1]) and found["drop"] == pytest.approx(values[0] - values[1])
    drawn = [
        mean_average_precision(scores[0][rows], truth[rows]) - mean_average_precision(scores[1][rows], truth[rows])
        for rows in (np.random.default_rng(each).integers(0, 80, 80) for each in range(200))
    ]  # fmt: skip
    spread = np.quantile(drawn, 0.975) - np.quantile(drawn, 0.025)
    assert found["drop_high"] - found["drop_low"] == pytest.approx(spread, rel=0.25)
    assert found["drop_low"] < found["drop"] < found["drop_high"]


def test_photos_that_can_no_longer_be_read_are_no_figures() -> None:
    clean, worse = (Predictions(np.zeros(count, np.int64), ranks=np.zeros(count, np.int64)) for count in (5, 4))
    with pytest.raises(UserError, match="photos changed meanwhile"):
        summarize_further([clean], [{("noise", "1"): worse}], ("one",), seed=0)


@pytest.mark.parametrize(
    ("also", "said"),
    [
        (("more",), "write it as NAME=FOLDER"), (("=x",), "write it as NAME=FOLDER"),
        (("test=x",), "already names a part"), (("a=x", "a=y"), "given twice"),
    ],
)  # fmt: skip
def test_names_of_further_sets(also: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _ = KnnSettings(encoder="x", data=("x",), also=also).further


def test_every_corruption_once_at_every_severity() -> None:
    found = conditions((5, 2, 1))
    assert len(found) == len(set(found)) == 6 * 3 + 1 and ("gray", "1") in found
