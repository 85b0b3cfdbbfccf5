"""The probe as a whole, on hand-made photos of two classes: chosen without the test labels, exact, and repeatable."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from ssl_colorize.data import LabeledDataset, holdout_batches, open_dataset
from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.engine.checkpoint import load_checkpoint
from ssl_colorize.engine.log import RunLog, read_log
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.engine.trainer import training_session
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import concatenate_layers, extract, linear_probe, map_sides, runner, top_k_accuracy
from ssl_colorize.evaluate.probe import run_linear_probe
from ssl_colorize.evaluate.settings import ProbeSettings
from ssl_colorize.evaluate.sgd_probe import Probe, View, fit_probes, schedule
from ssl_colorize.models import Pretrained, create_model, save_pretrained

SKIMAGE_PHOTOS = Path(skimage.__file__).parent / "data"
SOURCE = "random:eccv16@0.125"


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with stripes that lie or stand, hidden in noise: 12 photos to train on and 6 to test on of each."""
    folder = tmp_path_factory.mktemp("striped")
    chance = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 6)):
        for number, name in enumerate(("lying", "standing")):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                wave = 127 + 90 * np.sin(np.arange(24) * chance.uniform(0.8, 1.2) + chance.uniform(0, 6))
                light = np.tile(wave, (24, 1)) if number else np.tile(wave[:, None], (1, 24))
                pixels = light[..., None] + chance.normal(0, 40, (24, 24, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / part / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weights file, which has an untrained twin."""
    path = tmp_path_factory.mktemp("trained") / "model.safetensors"
    torch.manual_seed(5)
    save_pretrained(Pretrained(model=create_model("eccv16", width=0.125), input_size=16), path)
    return str(path)


@pytest.fixture
def settings(striped: Path) -> ProbeSettings:
    return made(striped)


def made(data: Path, **changes: Any) -> ProbeSettings:
    return ProbeSettings(**{
        "encoder": SOURCE, "data": (str(data),), "layers": ("conv1", "conv3"), "resize": 16, "batch_size": 6,
        "workers": 0, "steps": 8, "learning_rates": (1e-3, 0.01, 0.1), "numbers": 64, "random": False,
        "device": "cpu", "no_cache": True,
    } | changes)  # fmt: skip


def figures(metrics: dict[str, Any]) -> str:
    return json.dumps(metrics, sort_keys=True)


def test_figures_of_every_layer_and_of_the_untrained_network(striped: Path, trained: str, tmp_path: Path) -> None:
    run = made(striped, encoder=trained, random=True, steps=20)
    metrics = run_linear_probe(run, tmp_path)
    assert list(metrics) == ["conv1", "conv3", "random", "trunk_unchanged"] and metrics["trunk_unchanged"] is True
    for one in (metrics["conv1"], metrics["conv3"], metrics["random"]["conv3"]):
        assert one["learning_rate"] in run.learning_rates and one["weight_decay"] == 5e-4
        assert one["low"] <= one["top1"] <= one["high"] and set(one["per_class"]) == {"lying", "standing"}
        assert 0 <= one["choosing"] <= 1 and one["top5"] == 1
    assert metrics["conv1"]["top1"] >= 0.75  # stripes are what first layers see
    # Of a finished run the log is left, and no state.
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 21)) and rows[-1]["loss"] < rows[0]["loss"]
    assert not list(tmp_path.glob("*.pt"))


def test_the_same_seed_gives_the_same_and_the_trunk_stays(settings: ProbeSettings, tmp_path: Path) -> None:
    before = load_encoder(SOURCE).fingerprint()
    first = run_linear_probe(settings, tmp_path)
    assert figures(run_linear_probe(settings, tmp_path)) == figures(first)
    assert load_encoder(SOURCE).fingerprint() == before


def test_a_trunk_that_moves_is_a_bug(settings: ProbeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(*arguments: Any, **options: Any) -> Encoder:
        encoder = load_encoder(*arguments, **options)

        def move(*_: Any) -> None:
            next(encoder.parameters()).data.add_(1e-6)

        encoder.register_forward_hook(move)
        return encoder

    monkeypatch.setattr(runner, "load_encoder", moved)
    with pytest.raises(RuntimeError, match="changed"):
        run_linear_probe(settings, tmp_path)


def test_choosing_does_not_see_the_test_labels(
    settings: ProbeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = run_linear_probe(settings, tmp_path)

    def poisoned(*arguments: Any, **options: Any) -> tuple[LabeledDataset, LabeledDataset]:
        train, test = open_dataset(*arguments, **options)
        return train, dataclasses.replace(test, labels=1 - test.labels)

    monkeypatch.setattr(runner, "open_dataset", poisoned)
    other = run_linear_probe(settings, tmp_path)
    for layer in settings.layers:
        assert other[layer]["choosing"] == sound[layer]["choosing"]
        assert other[layer]["learning_rate"] == sound[layer]["learning_rate"]
        assert other[layer]["top1"] == pytest.approx(1 - sound[layer]["top1"])


def test_a_stopped_run_goes_on_exactly(settings: ProbeSettings, trained: str, tmp_path: Path) -> None:
    run = settings.model_copy(update={"seeds": 2, "random": True, "encoder": trained})
    whole = run_linear_probe(run, tmp_path)
    for stop_at in (3, 8 + 2):
        steps = 0

        def stop(what: str, done: int, total: int, stop_at: int = stop_at) -> None:
            nonlocal steps
            steps += 1
            if steps == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Interrupted, match="--resume"):
            run_linear_probe(run, tmp_path, watch=stop)
        assert (tmp_path / "checkpoint.pt").is_file()
        assert figures(run_linear_probe(run, tmp_path, resume=True)) == figures(whole)
        assert [row["step"] for row in read_log(tmp_path)] == list(range(1, 17))


def test_a_state_of_before_checkpoints_had_a_number_goes_on(settings: ProbeSettings, tmp_path: Path) -> None:
    whole = run_linear_probe(settings, tmp_path)

    def stop(what: str, done: int, total: int) -> None:
        if done == 3 * settings.batch_size:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run_linear_probe(settings, tmp_path, watch=stop)
    state = load_checkpoint(tmp_path, "linear-probe")
    old = {"done": state.extra["done"], "step": state.step, "probes": list(state.model.values())}
    (tmp_path / "checkpoint.pt").unlink()
    torch.save(old, tmp_path / "probe.pt")
    assert figures(run_linear_probe(settings, tmp_path, resume=True)) == figures(whole)
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("engine", ["sgd", "ridge"])
def test_nothing_or_a_damaged_state_to_resume_is_one_line(settings: ProbeSettings, engine: str, tmp_path: Path) -> None:
    run = settings.model_copy(update={"engine": engine})
    if engine == "ridge":
        # Quick, and nothing is saved on the way: it is done again.
        assert run_linear_probe(run, tmp_path, resume=True) == run_linear_probe(run, tmp_path)
        return
    with pytest.raises(UserError, match="Nothing to resume"):
        run_linear_probe(run, tmp_path, resume=True)
    for content in (b"", b"no state at all"):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(UserError, match="is damaged and cannot be resumed") as caught:
            run_linear_probe(run, tmp_path, resume=True)
        assert "\n" not in str(caught.value)


def test_several_seeds_have_a_spread_and_a_seed_of_their_own(settings: ProbeSettings, tmp_path: Path) -> None:
    both = run_linear_probe(settings.model_copy(update={"seeds": 2}), tmp_path)
    alone = [run_linear_probe(settings.model_copy(update={"seed": seed}), tmp_path) for seed in (0, 1)]
    for layer in settings.layers:
        assert both[layer]["runs"] == [one[layer]["top1"] for one in alone]
        assert both[layer]["top1"] == pytest.approx(np.mean(both[layer]["runs"]))
        assert both[layer]["spread"] == pytest.approx(np.std(both[layer]["runs"], ddof=1))


@pytest.mark.parametrize("engine", ["sgd", "ridge"])
def test_refitting_changes_what_is_predicted_and_not_what_is_chosen(
    settings: ProbeSettings, engine: str, tmp_path: Path
) -> None:
    told: list[str] = []
    plain = run_linear_probe(settings.model_copy(update={"engine": engine}), tmp_path)
    again = run_linear_probe(
        settings.model_copy(update={"engine": engine, "refit": True}), tmp_path,
        watch=lambda what, done, total: told.append(f"{what} {total}"),
    )  # fmt: skip
    key = "learning_rate" if engine == "sgd" else "strength"
    for one in (key, "choosing"):
        assert [again[layer][one] for layer in settings.layers] == [plain[layer][one] for layer in settings.layers]
    assert ("Training again 48" in told) == (engine == "sgd")  # 8 steps of 6 photos


@pytest.mark.parametrize("engine", ["sgd", "ridge", "logistic"])
def test_several_labels_a_photo(engine: str, striped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def several(*arguments: Any, **options: Any) -> tuple[LabeledDataset, ...]:
        parts = open_dataset(*arguments, **options)
        found = []
        for part in parts:
            labels = np.eye(2, dtype=np.int8)[part.labels]
            labels[0, 1] = -1
            found.append(dataclasses.replace(part, labels=labels))
        return tuple(found)

    monkeypatch.setattr(runner, "open_dataset", several)
    metrics = run_linear_probe(made(striped, engine=engine, layers=("conv1",), steps=30, numbers=512), tmp_path)
    one = metrics["conv1"]
    assert "top1" not in one and one["low"] <= one["map"] <= one["high"]
    assert set(one["per_class"]) == {"lying", "standing"}
    assert one["map"] > 0.8


def test_one_layer_one_head_is_its_row_of_all(settings: ProbeSettings, tmp_path: Path) -> None:
    """Training more layers and rates beside it changes nothing in a head."""
    train, _ = open_dataset(settings.data)
    encoder = load_encoder(SOURCE)
    view = View.of(settings.model_copy(update={"crop": 16}))
    every = Probe(encoder, encoder.layers, settings, classes=2, crop=view.crop)
    single = settings.model_copy(update={"learning_rates": (0.01,)})
    one = Probe(encoder, ("conv3",), single, classes=2, crop=view.crop)
    with training_session("cpu", tmp_path, command="linear-probe") as session, RunLog(tmp_path) as log:
        for probe, run in ((every, settings), (one, single)):
            fit_probes([probe], train, run, view=view, seed=0, session=session, log=log)
    torch.testing.assert_close(every.heads["conv3"].weight[1], one.heads["conv3"].weight[0], rtol=1e-5, atol=1e-7)


HEADS = ("linear", "attentive", "all-layers")
NAMES = ["conv1", "conv3", "conv1/attentive", "conv3/attentive", "all-layers/attentive", "all-layers"]


def test_all_heads_train_in_one_pass_and_go_on_exactly(settings: ProbeSettings, trained: str, tmp_path: Path) -> None:
    run = settings.model_copy(update={"heads": HEADS, "encoder": trained, "random": True})
    whole = run_linear_probe(run, tmp_path)
    assert list(whole) == [*NAMES, "random", "trunk_unchanged"] and list(whole["random"]) == NAMES
    for name in NAMES:
        assert whole[name]["learning_rate"] in run.learning_rates and whole[name].keys() == whole["conv1"].keys()
    # Beside others a head is what it is alone.
    alone = run_linear_probe(run.model_copy(update={"heads": ("linear",)}), tmp_path)
    assert figures(alone["conv3"]) == figures(whole["conv3"])

    def stop(what: str, done: int, total: int) -> None:
        if done == 5 * run.batch_size:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run_linear_probe(run, tmp_path, watch=stop)
    assert figures(run_linear_probe(run, tmp_path, resume=True)) == figures(whole)


def test_both_engines_see_the_same_of_all_layers(settings: ProbeSettings, tmp_path: Path) -> None:
    run = settings.model_copy(update={"engine": "ridge", "heads": ("all-layers",), "numbers": 512})
    found = run_linear_probe(run, tmp_path)
    assert list(found) == ["all-layers", "trunk_unchanged"] and found["all-layers"]["strength"] > 0
    encoder, (train, test) = load_encoder(SOURCE), open_dataset(run.data)
    sizes = map_sides(encoder, run.layers, 16, numbers=512)
    rows = [extract(encoder, part.photos, layers=run.layers, resize=16, sizes=sizes).features for part in (train, test)]
    joined = [
        concatenate_layers({name: x[name].reshape(len(x[name]), -1, side, side) for name, side in sizes.items()},
                           numbers=512) for x in rows
    ]  # fmt: skip
    expected = linear_probe(joined[0], train.labels, joined[1], strengths=run.ridge_strengths)
    assert found["all-layers"]["top1"] == top_k_accuracy(expected.scores, test.labels)
    assert found["all-layers"]["strength"] == expected.strength
    # The same numbers, normalized, are what SGD sees.
    probe = Probe(encoder, run.layers, run, classes=2, crop=16)
    batch = next(holdout_batches(train.photos, resize=16, crop=16, batch_size=len(train), workers=0))
    seen = probe.inputs["all-layers"].train()(probe.maps(batch.photos)).numpy()
    first = torch.from_numpy(joined[0][:, : 8 * 25].reshape(len(train), 8, 5, 5))
    normed = torch.nn.functional.batch_norm(first, None, None, training=True, eps=1e-14)
    np.testing.assert_allclose(seen[:, : 8 * 25], normed.flatten(1), rtol=0.01, atol=2e-3)


def test_heads_that_cannot_be_are_one_line(settings: ProbeSettings, tmp_path: Path) -> None:
    for changes, said in (
        ({"heads": ("attentive",), "engine": "ridge"}, "attentive is trained by SGD: leave --engine ridge away"),
        ({"heads": ("all-layers",), "layers": ("conv1",)}, "at least 2 layers"),
        ({"heads": ("all-layers",), "layers": ("conv1",), "engine": "ridge"}, "at least 2 layers"),
    ):
        with pytest.raises(UserError, match=said):
            run_linear_probe(settings.model_copy(update=changes), tmp_path)


def test_maps_are_as_large_as_the_numbers_allow(settings: ProbeSettings) -> None:
    encoder = load_encoder(SOURCE)
    sides = map_sides(encoder, ("conv1", "conv7"), 32, numbers=300)
    assert sides == {"conv1": 6, "conv7": 2}  # 8 x 36 and 64 x 4 numbers
    assert map_sides(encoder, ("conv7",), 32, numbers=9216) == {"conv7": 4}


def test_the_papers_protocol(striped: Path) -> None:
    run = ProbeSettings(encoder=SOURCE, data=(str(striped),), protocol="zhang16")
    encoder = load_encoder(SOURCE)
    view = View.of(run)
    assert (view.crop, view.training) == (227, (256, 256))
    assert (run.batch_size, run.steps, run.epochs, run.learning_rates) == (256, 140_000, None, (0.01,))
    assert [schedule(run, 140_000)(step) for step in (0, 39_999, 40_000, 139_999)] == pytest.approx([1, 1, 0.1, 1e-3])
    assert list(map_sides(encoder, encoder.layers, 227, numbers=run.numbers, sizes=run.sizes).values()) == [
        10,
        6,
        5,
        5,
        6,
        6,
        6,
    ]
    # What is asked for wins over the protocol, and what a run writes reads back as the same run.
    other = ProbeSettings(encoder=SOURCE, data=("x",), protocol="zhang16", epochs=3, batch_size=8)
    assert (other.steps, other.epochs, other.batch_size) == (None, 3, 8)
    assert ProbeSettings(**other.model_dump()) == other


def test_mistakes_are_one_line(settings: ProbeSettings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose from conv1, conv2"):
        run_linear_probe(settings.model_copy(update={"layers": ("conv9",)}), tmp_path)
    (tmp_path / "photos" / "alone").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "photos" / "alone" / "a.png")
    with pytest.raises(UserError):
        run_linear_probe(settings.model_copy(update={"data": (str(tmp_path / "photos"),)}), tmp_path)
    with pytest.raises(UserError, match="steps or epochs"):
        ProbeSettings.checked(settings.model_dump() | {"epochs": 3})


def test_twins(trained: str) -> None:
    assert str(load_encoder(trained).untrained) == SOURCE
    assert load_encoder(SOURCE).untrained is None


WORKER = """
import json, sys, torch
from pathlib import Path
from ssl_colorize.evaluate import ProbeSettings, run_linear_probe
torch.set_num_threads(1)
folder = Path(sys.argv[1])
metrics = run_linear_probe(ProbeSettings.resolve(file=folder / "settings.yaml"), folder)
if metrics:
    (folder / "metrics.json").write_text(json.dumps(metrics))
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_two_processes_are_one(settings: ProbeSettings, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(settings.model_dump_json())
    (tmp_path / "worker.py").write_text(WORKER)
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         str(tmp_path / "worker.py"), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True, timeout=120, capture_output=True,
    )  # fmt: skip
    two, one = json.loads((tmp_path / "metrics.json").read_text()), run_linear_probe(settings, tmp_path)
    for layer in settings.layers:
        for name in ("top1", "learning_rate", "choosing"):
            assert two[layer][name] == pytest.approx(one[layer][name]), (layer, name)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Which photo is a crop from? Real photos of scikit-image: their left part to train on, their right to test on."""
    folder = tmp_path_factory.mktemp("places")
    chance = np.random.default_rng(0)
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "retina.jpg", "hubble_deep_field.jpg"):
        if not (SKIMAGE_PHOTOS / name).is_file():
            continue
        photo = Image.open(SKIMAGE_PHOTOS / name).convert("L").convert("RGB")
        photo.thumbnail((320, 320))
        border = int(0.6 * photo.width)
        for part, count, low, high in (("train", 40, 0, border), ("test", 30, border, photo.width)):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                left, top = chance.integers(low, high - 40), chance.integers(0, photo.height - 40)
                photo.crop((left, top, left + 40, top + 40)).save(folder / part / name / f"{index}.png")
    if len(list(folder.glob("train/*"))) < 4:
        pytest.skip("this scikit-image carries too few photos")
    return folder


@pytest.mark.slow
def test_both_engines_agree_on_real_photos(places: Path, tmp_path: Path) -> None:
    run = made(
        places, layers=("conv1", "conv2", "conv3"), resize=32, batch_size=32, steps=400, numbers=256,
        learning_rates=(1e-3, 3e-3, 0.01, 0.03, 0.1), engine="sgd",
    )  # fmt: skip
    found = {
        engine: run_linear_probe(run.model_copy(update={"engine": engine}), tmp_path)
        for engine in ("sgd", "ridge", "logistic")
    }
    means = {name: np.mean([one[layer]["top1"] for layer in run.layers]) for name, one in found.items()}
    # Agreement says something only well above chance, which is one in as many as there are photos.
    assert min(means.values()) > 2 / len(list((places / "train").iterdir()))
    assert means["ridge"] == pytest.approx(means["sgd"], abs=0.04)
    assert means["logistic"] == pytest.approx(means["sgd"], abs=0.04)


def test_other_photos_are_refused_or_all_heads_are_trained_anew_on_them(striped: Path, tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    shutil.copytree(striped, data)
    folder.mkdir()

    def stop(what: str, done: int, total: int) -> None:
        if done == 18:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run_linear_probe(made(data), folder, watch=stop)
    (data / "train" / "lying" / "0.png").rename(data / "test" / "lying" / "new.png")
    with pytest.raises(UserError, match=r"1 added, 1 removed.*data_changed=allow"):
        run_linear_probe(made(data), folder, resume=True)
    said: list[str] = []
    allowed = run_linear_probe(made(data, data_changed="allow"), folder, resume=True, say=said.append)
    assert any("the heads are trained anew" in line for line in said)
    assert figures(allowed) == figures(run_linear_probe(made(data), tmp_path))
