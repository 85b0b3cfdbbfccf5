"""Features of many photos: the right ones, kept whole or not at all, and told before the disk fills."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_colorize as sc
from ssl_colorize.data import Photos, open_photos
from ssl_colorize.data.transforms import resized_window
from ssl_colorize.encoder import Encoder, pool_map
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import cache as cache_module
from ssl_colorize.evaluate.features import (
    Extracted,
    extract,
    frozen,
)
from ssl_colorize.evaluate.settings import EvaluationSettings

LAYERS = ("conv2", "conv5")
SIZES = {"conv2": 3}


@pytest.fixture
def encoder() -> Encoder:
    return sc.load_encoder("random:eccv16@0.125")


@pytest.fixture
def few(photo_folder: Path) -> Photos:
    """Seven photos, the fourth of which is broken."""
    files = sorted(photo_folder.iterdir())
    for path in files[7:]:
        path.unlink()
    files[3].write_bytes(files[3].read_bytes()[:300])
    return open_photos([str(photo_folder)])


def take(encoder: Encoder, photos: Photos, cache: Path | None = None, **changes: Any) -> Extracted:
    options: dict[str, Any] = {"layers": LAYERS, "resize": 24, "crop": 16, "sizes": SIZES, "batch_size": 3}
    return extract(encoder, photos, cache=cache, **options | changes)


def same(one: Extracted, other: Extracted) -> bool:
    assert one.features.keys() == other.features.keys()
    equal = (np.array_equal(one.features[layer], other.features[layer]) for layer in one.features)
    return np.array_equal(one.kept, other.kept) and all(equal)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The layers of every forward pass."""
    seen: list[tuple[str, ...]] = []
    forward = Encoder.forward

    def counted(self: Encoder, images: torch.Tensor, layers: Any = None) -> Any:
        seen.append(tuple(layers))
        return forward(self, images, layers)

    monkeypatch.setattr(Encoder, "forward", counted)
    return seen


# --- what comes out --------------------------------------------------------------------------------------------------


def test_features_are_those_of_each_photo(encoder: Encoder, few: Photos) -> None:
    found = take(encoder, few)
    assert found.kept.tolist() == [0, 1, 2, 4, 5, 6]
    assert found.features["conv2"].shape == (6, 16 * 9)
    for row, index in enumerate(found.kept):
        window = resized_window(few[int(index)], short_side=24, crop=16, across=0.5, down=0.5)
        maps = encoder(torch.tensor(np.asarray(window)).permute(2, 0, 1)[None])
        for layer, size in (("conv2", 3), ("conv5", 1)):
            expected = pool_map(maps[layer], size).flatten().numpy()
            np.testing.assert_allclose(found.features[layer][row], expected, rtol=1e-4, atol=1e-6)


def test_batches_and_workers_change_nothing(encoder: Encoder, few: Photos, tmp_path: Path) -> None:
    reference = take(encoder, few)
    for found in (take(encoder, few, batch_size=64), take(encoder, few, workers=1), take(encoder, few, tmp_path)):
        assert np.array_equal(found.kept, reference.kept)
        for layer in LAYERS:
            np.testing.assert_allclose(found.features[layer], reference.features[layer], rtol=1e-4, atol=1e-6)


def test_sides_come_from_the_encoder_by_default(encoder: Encoder, few: Photos) -> None:
    encoder.input_size = 32
    default = take(encoder, few, resize=None, crop=None, layers=())
    assert same(default, take(encoder, few, resize=32, crop=32, layers=encoder.layers))


def test_all_layers_share_one_pass_and_progress_is_told(
    encoder: Encoder, few: Photos, passes: list[tuple[str, ...]]
) -> None:
    done: list[int] = []
    said: list[str] = []
    take(encoder, few, advance=done.append, say=said.append)
    assert passes == [LAYERS] * 3
    assert sum(done) == 7
    assert len(said) == 1 and "photo03.png" in said[0]


# --- the cache -------------------------------------------------------------------------------------------------------


def test_cache_gives_the_same_without_computing(
    encoder: Encoder, few: Photos, tmp_path: Path, passes: list[tuple[str, ...]]
) -> None:
    cache = tmp_path / "new" / "cache"
    first = take(encoder, few, cache)
    assert same(first, take(encoder, few))
    passes.clear()
    again = take(encoder, few, cache)
    assert same(again, first)
    assert passes == []
    assert isinstance(again.features["conv5"], np.memmap)
    # Only what is missing is computed.
    both = take(encoder, few, cache, layers=("conv5", "conv7"))
    assert set(passes) == {("conv7",)}
    assert tuple(both.features) == ("conv5", "conv7")


@pytest.mark.parametrize("change", ["weights", "pool", "size", "resize", "crop", "photo", "set", "place"])
def test_cache_knows_what_features_depend_on(
    encoder: Encoder, few: Photos, photo_folder: Path, tmp_path: Path, passes: list[tuple[str, ...]], change: str
) -> None:
    cache = tmp_path / "cache"
    take(encoder, few, cache)
    passes.clear()
    options: dict[str, Any] = {
        "pool": {"pool": "bilinear"}, "size": {"sizes": {"conv2": 2, "conv5": 2}}, "resize": {"resize": 32},
        "crop": {"crop": 24},
    }.get(change, {})  # fmt: skip
    if change == "weights":
        encoder.trunk.model.conv1[0].weight[0, 0, 0, 0] += 1e-3
    elif change == "photo":
        Image.new("RGB", (40, 48), "red").save(photo_folder / "photo00.png")
    elif change == "set":
        few = few.take([0, 2, 1, 3, 4, 5, 6])
    elif change == "place":
        # Names, sizes and times may be equal in two folders that are not.
        other = shutil.copytree(photo_folder, tmp_path / "other")
        few = open_photos([str(other)])
    found = take(encoder, few, cache, **options)
    assert {layer for layers in passes for layer in layers} == set(LAYERS)
    assert same(found, take(encoder, few, **options))


class Interrupted(Exception):
    pass


def test_a_crash_half_way_leaves_nothing(encoder: Encoder, few: Photos, tmp_path: Path) -> None:
    def fail_late(photos: int) -> None:
        assert list(tmp_path.glob(".*.part"))
        raise Interrupted

    cache = tmp_path
    before = set(tmp_path.iterdir())
    with pytest.raises(Interrupted):
        take(encoder, few, cache, advance=fail_late)
    assert set(tmp_path.iterdir()) == before
    assert same(take(encoder, few, cache), take(encoder, few))


def test_a_killed_run_leaves_no_valid_file(
    encoder: Encoder, few: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: list[tuple[str, ...]]
) -> None:
    cache = tmp_path / "cache"

    def fail(photos: int) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.Writer, "_remove", lambda self: None)  # as nothing runs after a kill
        with pytest.raises(Interrupted):
            take(encoder, few, cache, advance=fail)
    (left,) = {path.suffix for path in cache.iterdir()}
    assert left == ".part"
    passes.clear()
    take(encoder, few, cache)
    assert passes  # computed
    assert list(cache.glob(".*.part"))  # another run may be writing them
    for path in cache.glob(".*.part"):
        os.utime(path, (0, 0))
    take(encoder, few, cache, layers=("conv1",))
    assert not list(cache.glob(".*.part"))


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "kept"])
def test_a_damaged_file_is_made_again(encoder: Encoder, few: Photos, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    take(encoder, few, cache, layers=("conv5",))
    (kept,) = cache.glob("*.kept.npy")
    (features,) = set(cache.iterdir()) - {kept}
    if damage == "cut":
        features.write_bytes(features.read_bytes()[:-4])
    elif damage == "empty":
        features.write_bytes(b"")
    elif damage == "other":
        np.save(features, np.zeros((2, 64), np.float32))
    else:
        kept.unlink()
    assert same(take(encoder, few, cache, layers=("conv5",)), take(encoder, few, layers=("conv5",)))


def test_size_is_told_first_and_true(encoder: Encoder, photo_folder: Path, tmp_path: Path) -> None:
    photos = open_photos([str(photo_folder)])
    told: list[tuple[str, bool]] = []
    cache = tmp_path / "cache"
    take(encoder, photos, cache, say=lambda line: told.append((line, any(cache.glob("*.npy")))))
    ((line, late),) = told
    numbers = 16 * 9 + 64
    assert f"14 photos x {numbers} numbers x 4 bytes = 11.6 kB" in line
    assert not late
    arrays = [np.load(path) for path in cache.glob("*.npy") if "kept" not in path.name]
    assert sum(each.nbytes for each in arrays) == 14 * numbers * 4
    told.clear()
    take(encoder, photos, cache, say=lambda line: told.append((line, True)))
    assert "taken from" in told[0][0]


def test_a_disk_too_small_is_refused_with_the_arithmetic(
    encoder: Encoder, few: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: list[tuple[str, ...]]
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError) as caught:
        take(encoder, few, tmp_path / "cache")
    message = str(caught.value)
    assert "7 photos x 208 numbers x 4 bytes = 5.8 kB" in message
    assert "5.0 kB free" in message and "--no-cache" in message and "\n" not in message
    assert passes == []
    assert not list((tmp_path / "cache").iterdir())


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("when", ["write", "header"])
def test_a_disk_that_fills_up_is_one_line(
    encoder: Encoder, few: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    if when == "write":
        monkeypatch.setattr(cache_module.os, "fsync", full)
    else:
        monkeypatch.setattr(cache_module, "_write_header", full)
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match="the disk is full"):
        take(encoder, few, cache)
    assert not list(cache.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(encoder: Encoder, few: Photos, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--cache"):
        take(encoder, few, tmp_path / "file" / "cache")


# --- frozen ----------------------------------------------------------------------------------------------------------


def test_frozen_says_nothing_where_nothing_moved(encoder: Encoder, few: Photos) -> None:
    with frozen(encoder):
        encoder.train()
        take(encoder, few)


@pytest.mark.parametrize(
    "touch",
    [
        lambda model: model.conv7[0].bias[0].add_(1e-6),
        lambda model: model.conv3[-1].running_var.mul_(1.0001),
        lambda model: model.conv3[-1].num_batches_tracked.add_(1),
        lambda model: model.logits.weight.neg_(),
    ],
)
def test_frozen_notices_any_change(encoder: Encoder, touch: Callable[[Any], None]) -> None:
    with pytest.raises(RuntimeError, match="changed"), torch.no_grad(), frozen(encoder):
        touch(encoder.trunk.model)


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    base: dict[str, Any] = {"encoder": "random:eccv16", "data": ["x"]}
    encoder.input_size = 96
    monkeypatch.setenv("SSL_COLORIZE_CACHE", "/from/environment")
    settings = EvaluationSettings.checked(base)
    assert settings.sides(encoder) == (96, 96)
    assert settings.cache_folder == Path("/from/environment")
    settings = EvaluationSettings.checked({**base, "resize": 128, "crop": 112, "cache": "/given"})
    assert settings.sides(encoder) == (128, 112)
    assert settings.cache_folder == Path("/given")
    monkeypatch.delenv("SSL_COLORIZE_CACHE")
    assert EvaluationSettings.checked(base).cache_folder == Path.home() / ".cache/ssl-colorize/features"
    assert EvaluationSettings.checked({**base, "no_cache": True, "cache": "/given"}).cache_folder is None
    with pytest.raises(UserError, match="crop of 128 px does not fit"):
        EvaluationSettings.checked({**base, "crop": 128}).sides(encoder)
    for wrong in ({"data": []}, {"limit": 1}, {"batch_size": 0}):
        with pytest.raises(UserError):
            EvaluationSettings.checked({**base, **wrong})
