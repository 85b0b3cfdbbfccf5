"""The Colorizer: sizes, lightness, geometry, strips, and what people hand in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.color import rgb2lab
from torch import Tensor

import ssl_colorize.colorize as module
from ssl_colorize.color import annealed_mean, rgb_to_lightness
from ssl_colorize.colorize import Colorizer, gray, seen_size
from ssl_colorize.device import choose_device
from ssl_colorize.errors import UserError
from ssl_colorize.models import (
    ColorizationModel,
    Pretrained,
    create_model,
    load_pretrained,
    predict_ab,
    save_pretrained,
)
from ssl_colorize.models.objectives import AB_SCALE

PHOTOS = Path(skimage.__file__).parent / "data"


def untrained(*, input_size: int = 32, temperature: float = 0.0, seed: int = 0) -> Pretrained:
    """A tiny network with vivid colors that mean nothing: its output's bias is drawn wide."""
    torch.manual_seed(seed)
    model = create_model("eccv16", width=0.125)
    for parameter in model.parameters():
        last = parameter
    torch.nn.init.normal_(last, std=2.0)
    return Pretrained(model=model.eval(), input_size=input_size, temperature=temperature)


class LightnessAsColor(ColorizationModel):
    """Answers a = mean L of each 4 x 4 cell, b = -a: where a color ends up can be read off the photo itself."""

    name = "lightness_as_color"
    target_stride = 4
    multiple = 8

    def __init__(self) -> None:
        super().__init__(width=1.0, outputs=2)

    def stages(self, lightness: Tensor) -> Iterator[tuple[str, Tensor]]:
        assert lightness.shape[2] % self.multiple == 0 and lightness.shape[3] % self.multiple == 0
        cells = F.avg_pool2d(lightness, 4) / AB_SCALE
        yield "logits", torch.cat((cells, -cells), dim=1)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def lightness_error(before: np.ndarray[Any, Any], after: Image.Image) -> np.ndarray[Any, Any]:
    return np.abs(rgb2lab(before)[..., 0] - rgb2lab(np.asarray(after))[..., 0])


# ---- lightness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png", "chelsea.png"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_photo_keeps_its_own_lightness(name: str, seed: int) -> None:
    path = PHOTOS / name
    if not path.exists():
        pytest.skip(f"this scikit-image carries no {name}")
    photo = Image.open(path).convert("RGB")
    colored = Colorizer(untrained(seed=seed)).colorize(photo)
    error = lightness_error(np.asarray(photo), colored)
    assert error.max() < 0.15
    assert error.mean() < 0.05
    assert np.linalg.norm(rgb2lab(np.asarray(colored))[..., 1:], axis=-1).mean() > 10, "it did not color anything"


def test_a_float_image_keeps_the_lightness_that_eight_bits_would_round_away() -> None:
    ramp = np.tile(np.linspace(0.3, 0.32, 64, dtype=np.float32), (64, 1))
    error = lightness_error(np.repeat(ramp[..., None], 3, axis=2), Colorizer(untrained()).colorize(ramp))
    # Between two grays lie about 0.4 of L: rounding the input would err by up to 0.2.
    assert error.max() < 0.1


def test_own_colors_are_not_looked_at() -> None:
    photo = Image.fromarray(noise(40, 56))
    colorizer = Colorizer(untrained(temperature=0.38))
    difference = (colorizer.ab(photo) - colorizer.ab(gray(photo))).abs()
    assert difference.max() < 0.5, "only the rounding of the gray copy may show"


def test_gray_is_neutral_and_of_the_same_lightness() -> None:
    photo = noise(16, 16)
    colorless = np.asarray(gray(photo))
    assert (colorless == colorless[..., :1]).all()
    assert lightness_error(photo, gray(photo)).max() < 0.3


# ---- geometry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 91), (200, 30), (8, 8)])
def test_any_size_comes_back_as_it_was(size: tuple[int, int]) -> None:
    assert Colorizer(untrained()).colorize(noise(*size)).size == (size[1], size[0])


def test_ab_is_the_bilinear_upsampling_of_the_network_where_nothing_is_resized() -> None:
    pretrained = untrained(input_size=32)
    photo = noise(32, 32)
    light = rgb_to_lightness(torch.from_numpy(photo).permute(2, 0, 1)).unsqueeze(0)
    with torch.no_grad():
        coarse = predict_ab(pretrained, light)
    expected = F.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(Colorizer(pretrained).ab(photo), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(40, 40), (67, 101), (101, 67), (20, 33), (333, 500)])
def test_colors_lie_where_their_pixels_are_at_any_size(size: tuple[int, int]) -> None:
    """Padding that was not cut, or half a cell of shift, would move the ramp by several units."""
    height, width = size
    down, across = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    photo = (0.15 + 0.35 * down + 0.35 * across).astype(np.float32)
    ab = Colorizer(Pretrained(model=LightnessAsColor(), objective="l2", input_size=37)).ab(photo).numpy()
    light = rgb2lab(np.repeat(photo[..., None], 3, axis=2))[..., 0]
    # Cells at the border hold their own mean to the very edge, as bilinear upsampling does.
    edge = -(-2 * max(size) // 37) + 1
    inside = (slice(edge, -edge), slice(edge, -edge))
    assert np.abs(ab[0] - light)[inside].max() < 0.8
    assert np.abs(ab[1] + light)[inside].max() < 0.8


@pytest.mark.parametrize("size", [(64, 64), (80, 120)])
def test_flip_averages_what_is_said_of_both_mirror_images(size: tuple[int, int]) -> None:
    pretrained = load_pretrained("eccv16_starter")
    colorizer = Colorizer(pretrained)
    photo = noise(*size)
    found = colorizer.ab(photo, flip=True)
    assert not torch.allclose(found, colorizer.ab(photo), atol=0.01)
    # The mirror image gets the mirrored colors, which it does not otherwise.
    torch.testing.assert_close(colorizer.ab(photo[:, ::-1].copy(), flip=True), found.flip(-1), rtol=0, atol=1e-3)
    light = rgb_to_lightness(torch.from_numpy(photo).permute(2, 0, 1)).unsqueeze(0)
    if size == (64, 64):
        with torch.no_grad():
            logits = [pretrained.model(light), pretrained.model(light.flip(-1)).flip(-1)]
            coarse = annealed_mean((logits[0] + logits[1]) / 2, pretrained.temperature)
        expected = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_size_decides_what_the_network_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(pretrained: Pretrained, lightness: Tensor, **options: Any) -> Tensor:
        seen.append(tuple(lightness.shape[2:]))
        return predict_ab(pretrained, lightness, **options)

    monkeypatch.setattr(module, "predict_ab", spy)
    colorizer = Colorizer(untrained(input_size=32))
    colorizer.colorize(noise(100, 150))
    colorizer.colorize(noise(100, 150), size=64)
    colorizer.colorize(noise(100, 150), size=60)
    # 60 is padded to the next multiple of 8.
    assert seen == [(32, 32), (64, 64), (64, 64)]


def test_photos_up_to_two_to_one_are_squeezed_into_a_square_and_longer_ones_to_half_their_aspect() -> None:
    assert seen_size(100, 150, short=64) == seen_size(150, 100, short=64) == seen_size(100, 200, short=64) == (64, 64)
    assert seen_size(100, 300, short=64) == (64, 96)
    assert seen_size(400, 100, short=64) == (128, 64)


def test_a_very_long_photo_does_not_explode() -> None:
    height, width = seen_size(2, 10_000, short=64)
    assert width == 16 * 64 and height == 1


def test_strips_of_rows_change_nothing_and_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = noise(90, 70)
    colorizer = Colorizer(untrained())
    whole = np.asarray(colorizer.colorize(photo))
    joined, join = [], module._join

    def spy(lightness: Tensor, ab: Tensor) -> Any:
        joined.append(lightness.numel())
        return join(lightness, ab)

    monkeypatch.setattr(module, "STRIP_PIXELS", 7 * 70)
    monkeypatch.setattr(module, "_join", spy)
    assert np.array_equal(np.asarray(colorizer.colorize(photo)), whole)
    assert len(joined) == 13 and max(joined) == 7 * 70


# ---- temperature ----------------------------------------------------------------------------------------------------


def test_no_temperature_means_the_checkpoints_own() -> None:
    photo = noise(32, 32)
    colorizer = Colorizer(untrained(temperature=0.5))
    own = np.asarray(colorizer.colorize(photo))
    assert np.array_equal(own, np.asarray(colorizer.colorize(photo, 0.5)))
    assert not np.array_equal(own, np.asarray(colorizer.colorize(photo, temperature=0.05)))


def test_impossible_numbers_are_user_errors() -> None:
    colorizer = Colorizer(untrained())
    with pytest.raises(UserError, match="temperature"):
        colorizer.colorize(noise(8, 8), -1.0)
    with pytest.raises(UserError, match="temperature"):
        colorizer.colorize(noise(8, 8), float("nan"))
    with pytest.raises(UserError, match="at least 8"):
        colorizer.colorize(noise(8, 8), size=4)


# ---- what people hand in --------------------------------------------------------------------------------------------


def test_the_same_photo_in_every_shape_gives_the_same_colors(tmp_path: Path) -> None:
    values = noise(24, 40)[..., 0]
    Image.fromarray(values).save(tmp_path / "gray.png")
    forms = [
        tmp_path / "gray.png",
        str(tmp_path / "gray.png"),
        Image.fromarray(values),
        values,
        values[:, :, None],
        np.repeat(values[:, :, None], 3, axis=2),
        np.dstack([values] * 3 + [np.full_like(values, 255)]),
        values / 255.0,
        (values / 255.0).astype(np.float32)[:, :, None],
        (values / 255.0).astype(">f8"),
        values.astype(np.uint16) * 257,
        (values.astype(np.uint16) * 257).astype(">u2"),
        np.dstack([values.astype(np.uint16) * 257] * 3 + [np.full(values.shape, 0xFFFF, np.uint16)]),
        np.asfortranarray(values / 255.0 * (1 + 1e-6)),
    ]
    colorizer = Colorizer(untrained())
    first, *others = [np.asarray(colorizer.colorize(form)).astype(int) for form in forms]
    for other in others:
        # A float of k / 255 is not exactly the table's entry for k, which may settle a tie the other way.
        assert np.abs(first - other).max() <= 1


def test_arrays_need_not_be_contiguous_or_writable() -> None:
    array = noise(24, 40)[::-1, ::2]
    array.setflags(write=False)
    expected = Colorizer(untrained()).colorize(np.ascontiguousarray(array))
    assert np.array_equal(np.asarray(Colorizer(untrained()).colorize(array)), np.asarray(expected))


def test_other_kinds_of_numbers() -> None:
    colorizer = Colorizer(untrained())
    mask = noise(24, 40)[..., 0] > 127
    expected = np.asarray(colorizer.colorize(mask.astype(np.uint8) * 255)).astype(int)
    assert np.abs(np.asarray(colorizer.colorize(mask)) - expected).max() <= 1
    half = (noise(24, 40) / 255).astype(np.float16)
    assert np.array_equal(np.asarray(colorizer.colorize(half)), np.asarray(colorizer.colorize(half.astype(np.float32))))


def test_transparency_lies_on_white() -> None:
    clear = np.zeros((16, 16, 4), dtype=np.uint8)
    assert lightness_error(np.full((16, 16, 3), 255, np.uint8), Colorizer(untrained()).colorize(clear)).max() < 0.15
    assert (np.asarray(gray(clear / 255.0)) == 255).all()


def test_a_photo_turned_by_exif_comes_back_upright(tmp_path: Path) -> None:
    array = np.zeros((20, 40, 3), dtype=np.uint8)
    array[:, :20] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise: white on top
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    colorizer = Colorizer(untrained())
    for form in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        colored = np.asarray(colorizer.colorize(form))
        assert colored.shape == (40, 20, 3)
        assert colored[:20].min() > 250 and colored[20:].max() < 5


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.zeros((3, 4, 5), np.uint8), r"not \(3, 4, 5\): move its channels to the end"),
        (np.zeros((1, 4, 5), np.float32), r"not \(1, 4, 5\): move its channels to the end"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\(2, 4, 4, 3\)"),
        (np.zeros((4, 4), np.int64), "not int64"),
        (np.zeros((4, 4), np.uint32), "not uint32"),
        (np.zeros((4, 4), np.complex64), "not complex64"),
        (np.full((4, 4), "a"), "not <U1"),
        (np.full((4, 4), 200.0), r"lie in \[0, 1\]; this one spans 200..200. Divide it by 255"),
        (np.full((4, 4, 3), -1.0, np.float16), "spans -1..-1"),
        (np.full((4, 4), np.nan), "nan"),
        (np.full((4, 4), np.inf), "inf"),
        (torch.zeros(3, 4, 4), "not a Tensor: .*permute"),
        ([[0, 1], [1, 0]], "not a list"),
        (None, "not a NoneType"),
    ],
)
def test_arrays_that_are_no_images_are_user_errors(array: Any, reason: str) -> None:
    for ask in (Colorizer(untrained()).colorize, gray):
        with pytest.raises(UserError, match=reason) as caught:
            ask(array)
        assert "\n" not in str(caught.value)


def test_colors_that_are_not_finite_are_refused() -> None:
    colorizer = Colorizer(untrained())
    for parameter in [*colorizer.pretrained.model.parameters()][-1:]:
        parameter.data.fill_(torch.nan)
    with pytest.raises(UserError, match=r"colors that are not finite: its numbers overflow in torch\.float32"):
        colorizer.colorize(noise(40, 56))


@pytest.mark.parametrize("bring", ["half", "bfloat16", "double"])
def test_networks_of_other_precisions_color_alike(bring: str) -> None:
    photo = noise(40, 56)
    expected = Colorizer(untrained()).ab(photo)
    colorizer = Colorizer(untrained())
    getattr(colorizer.pretrained.model, bring)()
    found = colorizer.ab(photo)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < (0.1 if bring == "double" else 6)


def test_a_pil_image_that_turns_out_truncated_is_a_user_error(tmp_path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-500])
    with pytest.raises(UserError, match="truncated"):
        Colorizer(untrained()).colorize(Image.open(tmp_path / "cut.jpg"))


# ---- loading --------------------------------------------------------------------------------------------------------


def test_load_takes_a_run_folder_and_the_public_name_is_the_same(tmp_path: Path) -> None:
    import ssl_colorize as sc

    pretrained = untrained(temperature=0.3)
    save_pretrained(pretrained, tmp_path / "model.safetensors")
    assert sc.Colorizer is Colorizer
    loaded = sc.Colorizer.load(tmp_path, device="cpu")
    photo = noise(32, 32)
    assert np.array_equal(np.asarray(loaded.colorize(photo)), np.asarray(Colorizer(pretrained).colorize(photo)))


def test_a_gpu_that_is_not_there_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="no CUDA GPU"):
        choose_device("cuda")
