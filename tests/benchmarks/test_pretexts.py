"""Other pretexts: that their questions are right, and that what they train is an encoder and no colorizer."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pretexts
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

import ssl_colorize as sc
from ssl_colorize.cli import main as verbs
from ssl_colorize.data import Batch, holdout_batches
from ssl_colorize.engine.checkpoint import load_checkpoint
from ssl_colorize.engine.distributed import Processes
from ssl_colorize.engine.log import read_log
from ssl_colorize.engine.signals import Interrupted, StopRequest
from ssl_colorize.engine.trainer import GradientStep, Session
from ssl_colorize.errors import UserError
from ssl_colorize.export.config import ExportSettings
from ssl_colorize.export.files import export
from ssl_colorize.models import load_pretrained
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import Pretraining, train
from ssl_colorize.pretrain.pretext import Pretext
from ssl_colorize.runs import write_config

NAMES = tuple(pretexts.PRETEXTS)
CPU = torch.device("cpu")
# Each class has a lightness of its own, by which its photos are known again.
GRAYS = {"n1": 40, "n2": 120, "n3": 200}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two folders of class folders, n2 in both; photos are darkest at their top, with a little color."""
    chance = np.random.default_rng(0)
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder, classes in zip(folders, (("n1", "n2"), ("n2", "n3")), strict=True):
        for name in classes:
            (folder / "train" / name).mkdir(parents=True)
            for index in range(6):
                down = np.linspace(-50, 50, 36)[:, None, None]
                pixels = GRAYS[name] + down + np.array([12, 0, -12]) + chance.normal(0, 4, (36, 36, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "train" / name / f"{index}.png")
    return str(folders[0]), str(folders[1] / "train")


def recipe(sets: tuple[str, str], pretext: str, **values: Any) -> pretexts.PretextRecipe:
    return pretexts.PretextRecipe.checked(color_recipe(sets, **values).model_dump() | {"pretext": pretext})


def color_recipe(sets: tuple[str, str], **values: Any) -> Recipe:
    return Recipe.checked(
        {
            "train": sets, "resize": (32, 36), "crop": 32, "holdout": 0.2, "width": 0.125, "init_photos": 8,
            "prior_photos": 16, "batch_size": 8, "steps": 40, "warmup": 2, "evaluate_every": 100, "workers": 0,
            "checkpoint_every": 100, "device": "cpu", "precision": "fp32", "optimizer": "muon", "ema": 0.8,
            "learning_rate": 2e-3, **values,
        }
    )  # fmt: skip


def begun(one: Recipe, folder: Path, kind: type[Pretext]) -> Any:
    folder.mkdir()
    return Pretraining(one, Session("pretrain", folder, CPU, Processes(), StopRequest()), kind, resume=False)


def batches(run: Pretraining, start: int, stop: int) -> list[Batch]:
    return list(run.batches(start, stop, Processes()))


def train_on(run: Pretraining, batch: Batch) -> Any:
    return GradientStep(run.network, run.optimizer, run.loss, learning_rate=lambda step: 1e-3, seed=0)(batch, 0)


@dataclass
class Trained:
    """The folder of a run, and what its metrics.json says."""

    folder: Path
    metrics: dict[str, Any]


@pytest.fixture(scope="module")
def trained(sets: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """A run of a pretext by its name, trained when it is first asked for."""

    @cache
    def of(name: str) -> Trained:
        folder = tmp_path_factory.mktemp(name)
        return Trained(folder, train(recipe(sets, name), folder, pretext=pretexts.PRETEXTS[name])["metrics"])

    return of


# ---- the questions ---------------------------------------------------------------------------------------------------


def test_a_photo_turns_against_the_clock() -> None:
    photo = torch.tensor([[[1, 2], [3, 4]]])
    turns = [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    # Not in order, so that numbering the photos instead would show.
    order = [2, 0, 3, 1, 1]
    found = pretexts.turned(photo.expand(5, 1, 2, 2), torch.tensor(order))
    assert found[:, 0].tolist() == [turns[number] for number in order]


def test_the_answer_is_the_turn_that_was_made(sets: tuple[str, str], tmp_path: Path) -> None:
    rotation = begun(recipe(sets, "rotation"), tmp_path / "run", pretexts.RotationPretext).objective
    photos = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)
    photos[:, :, 0, 0] = 255
    # Where the light corner goes: top left, bottom left, bottom right, top right.
    corners = torch.tensor([0, 56, 63, 7])
    torch.manual_seed(0)
    drawn = rotation.examples(photos, training=True)
    assert torch.equal(drawn.light.flatten(1).argmax(1), corners[drawn.answers])
    assert drawn.light.shape == (40, 1, 8, 8) and set(drawn.answers.tolist()) == {0, 1, 2, 3}
    # Held out, each photo is shown in all four turns.
    every = rotation.examples(photos[:2], training=False)
    assert every.answers.tolist() == [0, 1, 2, 3] * 2
    assert torch.equal(every.light.flatten(1).argmax(1), corners[every.answers])


def test_the_autoencoder_is_asked_for_the_lightness_of_the_pixels_that_colors_are_asked_for(
    sets: tuple[str, str], tmp_path: Path
) -> None:
    run = begun(recipe(sets, "autoencoder"), tmp_path / "run", pretexts.AutoencoderPretext)
    (batch,) = batches(run, 0, 1)
    question = run.examples(batch, training=True)
    assert torch.allclose(question.answers * 100, question.light[..., ::4, ::4])
    # The last layer begins at the mean, the best constant.
    assert run.model.logits.bias.item() == pytest.approx(question.answers.mean().item(), abs=0.1)
    assert run.model(question.light).shape == question.answers.shape


def test_folders_of_one_name_are_one_class(sets: tuple[str, str], tmp_path: Path) -> None:
    run = begun(recipe(sets, "supervised"), tmp_path / "run", pretexts.SupervisedPretext)
    pretext = run.pretext
    assert pretext.classes == ["n1", "n2", "n3"] and run.model.outputs == 3
    # 24 photos, of which 12 are of n2; a fifth is held out.
    assert torch.bincount(torch.cat((pretext.labels, pretext.held_out_labels))).tolist() == [6, 12, 6]
    assert (len(pretext.labels), len(pretext.held_out_labels)) == (19, 5)
    for batch, training in ((batches(run, 0, 1)[0], True), (held_out(run), False)):
        question = run.examples(batch, training=training)
        by_pixels = batch.photos.float().mean((1, 2, 3)).sub(torch.tensor([[gray] for gray in GRAYS.values()]))
        assert torch.equal(question.answers, by_pixels.abs().argmin(0))
    assert run.objective.output_bias.exp().tolist() == pytest.approx(
        (torch.bincount(pretext.labels) / 19).tolist(), abs=1e-3
    )


def held_out(run: Pretraining) -> Batch:
    return next(iter(holdout_batches(run.held_out, resize=34, crop=32, batch_size=8, workers=0)))


def test_photos_without_class_folders_have_no_labels(photo_folder: Path, sets: tuple[str, str], tmp_path: Path) -> None:
    for data, complaint in (
        ((str(photo_folder),), r"photo\d+\.png is in no class folder"),
        (("samples",), "is in no class folder"),
        ((f"{sets[0]}/train/n1",), "is in no class folder"),
    ):
        with pytest.raises(UserError, match=complaint):
            train(recipe(data, "supervised"), tmp_path, pretext=pretexts.SupervisedPretext)  # type: ignore[arg-type]


def test_the_photos_are_those_of_the_colorization_run(sets: tuple[str, str], tmp_path: Path) -> None:
    color = begun(color_recipe(sets), tmp_path / "color", Pretext)
    other = begun(recipe(sets, "rotation"), tmp_path / "rotation", pretexts.RotationPretext)
    for mine, its in zip(batches(color, 5, 8), batches(other, 5, 8), strict=True):
        assert torch.equal(mine.photos, its.photos)


# ---- the runs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figure", "better", "falls_to"),
    [
        ("rotation", "accuracy", 1, 0.9),
        ("autoencoder", "error", -1, 0.9),
        ("supervised", "top1", 1, 0.9),
        # There is little to learn of these photos' colors.
        ("hypercolumn", "loss", -1, 0.95),
    ],
)
def test_a_few_steps_beat_the_constant(
    trained: Callable[[str], Trained], name: str, figure: str, better: int, falls_to: float
) -> None:
    metrics = trained(name).metrics
    assert metrics["loss"] < 0.95 * metrics["loss_constant"]
    assert better * metrics[figure] > better * metrics[f"{figure}_constant"]
    if name == "rotation":
        assert metrics["accuracy_constant"] == 0.25
        assert metrics["loss_constant"] == pytest.approx(np.log(4))
    losses = [row["loss"] for row in read_log(trained(name).folder)]
    assert np.mean(losses[-5:]) < falls_to * np.mean(losses[:5])


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_is_the_trunk_that_learned(sets: tuple[str, str], tmp_path: Path, name: str) -> None:
    run = begun(recipe(sets, name), tmp_path / "run", pretexts.PRETEXTS[name])
    light = run.examples(held_out(run), training=False).inputs[0]

    def maps() -> torch.Tensor:
        evaluated = run.evaluated.eval()
        with torch.no_grad():
            return getattr(evaluated, "network", evaluated).forward_features(light, ("conv7",))["conv7"]

    before = maps()
    step = GradientStep(run.network, run.optimizer, run.loss, learning_rate=lambda step: 1e-3, seed=0, ema=run.ema)
    for number, batch in enumerate(batches(run, 0, 3)):
        step(batch, number)
    run.save(3)
    found = sc.load_encoder(tmp_path / "run")(light, ("conv7",))["conv7"]
    assert torch.allclose(found, maps(), atol=1e-5)
    assert (found - before).abs().max() > 1e-2, "it learned nothing"


def test_hypercolumns_read_every_layer(sets: tuple[str, str], tmp_path: Path) -> None:
    """And nothing else: of the network's own decoder the logits know nothing, of each layer's map they do."""
    run = begun(recipe(sets, "hypercolumn"), tmp_path / "run", pretexts.HypercolumnPretext)
    model = run.model.train()
    logits = model(torch.rand(2, 1, 32, 48) * 100)
    assert logits.shape == (2, 313, 8, 12) and len(model.head.reduce) == 7
    logits.square().sum().backward()
    for reduce in model.head.reduce:
        assert reduce[0].weight.grad.abs().max() > 0
    assert all(each.grad is None and not each.requires_grad for each in model.network.conv8.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_run_goes_on_to_the_bit(
    sets: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    short = recipe(sets, name, steps=4, evaluate_every=2)
    kind = pretexts.PRETEXTS[name]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    expected = train(short, whole, pretext=kind)["metrics"]
    objective, count = type(begun(short, tmp_path / "begun", kind).objective), iter(range(100))
    losses_of = objective.losses

    def losses(self: Any, output: Any, examples: Any) -> Any:
        if next(count) == 2:
            signal.raise_signal(signal.SIGTERM)
        return losses_of(self, output, examples)

    with monkeypatch.context() as patch:
        patch.setattr(objective, "losses", losses)
        with pytest.raises(Interrupted, match="after step 3"):
            train(short, parts, pretext=kind)
    torch.manual_seed(123)
    found = train(short, parts, resume=True, pretext=kind)["metrics"]
    assert {**found, "photos_per_second": 0} == {**expected, "photos_per_second": 0}
    for key, value in load_checkpoint(whole, "pretrain").model.items():
        assert torch.equal(load_checkpoint(parts, "pretrain").model[key], value), key
    for key, value in load_file(whole / "model.safetensors").items():
        assert torch.equal(load_file(parts / "model.safetensors")[key], value), key


# At 32 px nothing is left of alexnet's last map, which the hypercolumns read as well.
@pytest.mark.parametrize(
    ("model", "name"), [("alexnet", "rotation"), ("timm:test_resnet", "rotation"), ("timm:test_resnet", "hypercolumn")]
)
def test_other_trunks_learn_as_well(sets: tuple[str, str], tmp_path: Path, model: str, name: str) -> None:
    width = {"width": 0.03} if model == "alexnet" else {"width": 1.0}
    run = begun(recipe(sets, name, model=model, **width), tmp_path / "run", pretexts.PRETEXTS[name])
    assert train_on(run, batches(run, 0, 1)[0])["loss"].isfinite()
    # All that learns has a gradient, or several processes would wait for it.
    assert all(each.grad is not None for each in run.model.parameters() if each.requires_grad)
    run.save(1)
    encoder = sc.load_encoder(tmp_path / "run")
    assert encoder.layers[-1] == run.model.layers[-1]


# ---- what its network is not -----------------------------------------------------------------------------------------


def test_a_network_of_features_colors_nothing(
    trained: Callable[[str], Trained], photo_folder: Path, tmp_path: Path
) -> None:
    run = str(trained("autoencoder").folder)
    assert (load_pretrained(run).objective, load_pretrained(run).prior) == ("features", None)
    with pytest.raises(UserError, match="was not trained to color photos"):
        sc.Colorizer.load(run, device="cpu")
    colorize = ["colorize", str(next(photo_folder.glob("*.png"))), "-o", str(tmp_path / "out"), "--checkpoint", run]
    score = ["score", "--data", str(photo_folder), "--method", f"its={run}", "-o", str(tmp_path / "score")]
    for arguments in (colorize, score):
        result = CliRunner().invoke(verbs, arguments)
        assert result.exit_code == 2 and "was not trained to color photos" in result.stderr.splitlines()[-1]
    for kind, what in (("torch-export", "colorizer"), ("safetensors", "colorizer"), ("hub-folder", "encoder")):
        with pytest.raises(UserError, match="was not trained to color photos"):
            export(ExportSettings(source=run, to=kind, what=what), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.*"))


def test_info_names_it(trained: Callable[[str], Trained]) -> None:
    result = CliRunner().invoke(verbs, ["info", str(trained("rotation").folder)])
    assert result.exit_code == 0 and "features" in result.stdout and "rotation" in result.stdout
    assert "knn --encoder" in result.stdout.splitlines()[-1]


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_is_like_a_run_but_for_what_is_set(sets: tuple[str, str], tmp_path: Path) -> None:
    like, out = tmp_path / "like", tmp_path / "out"
    like.mkdir()
    write_config(like, color_recipe(sets, seed=5))
    arguments = ["rotation", "--like", str(like), "-o", str(out), "--set", "steps=2", "--json"]
    result = CliRunner().invoke(pretexts.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    config = json.loads(result.stdout)["config"]
    changed = {"steps": 2, "pretext": "rotation"}
    assert config == color_recipe(sets, seed=5).model_dump(mode="json") | changed
    assert (out / "loss.png").is_file()
    with pytest.raises(UserError, match="already holds a run"):
        CliRunner().invoke(pretexts.main, arguments, catch_exceptions=False)
    with pytest.raises(UserError, match="goes on with pretext rotation, as the run began"):
        CliRunner().invoke(pretexts.main, ["supervised", "--resume", str(out)], catch_exceptions=False)
    # It is no recipe of pretrain's.
    with pytest.raises(UserError, match="Unknown setting 'pretext'"):
        Recipe.resolve(file=out / "config.yaml")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"model": "dahl", "objective": "dahl", "rebalance": False}, "dahl is a colorizer"),
        ({"start": "runs/full"}, "from scratch only"),
        ({"model": "timm:test_resnet", "width": 1, "trunk": "imagenet"}, "from scratch only"),
    ],
)
def test_what_would_be_no_comparison_is_refused(sets: tuple[str, str], values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        recipe(sets, "rotation", **values)
