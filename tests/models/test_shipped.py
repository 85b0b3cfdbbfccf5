"""The network that comes with the package: found offline under every interface, and it has learned."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image

import ssl_colorize as sc
from ssl_colorize.cli import main
from ssl_colorize.color import rgb_to_lab
from ssl_colorize.data import open_photos
from ssl_colorize.models import load_pretrained
from ssl_colorize.models.pretrained import parameter_count
from ssl_colorize.models.released import SHIPPED, STARTER


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_is_small_and_says_whence_it_comes_but_not_where_that_lay(name: str) -> None:
    shipped = SHIPPED[name]
    assert shipped.stat().st_size < 20e6 and shipped.with_suffix(".md").is_file()
    pretrained = load_pretrained(name)
    assert parameter_count(pretrained.model) < 9e6 and pretrained.prior is not None
    training = pretrained.training
    assert training["photos_seen"] > 0 and training["holdout"]["loss"] < training["holdout"]["loss_constant"]
    # Photos and figures of the card are the file's.
    card = shipped.with_suffix(".md").read_text("utf-8")
    assert f"{training['photos_seen']:,}" in card and f"{training['holdout']['loss']:.3f}" in card
    assert not any(Path(each).is_absolute() for each in training["recipe"]["data"])


def test_load_encoder_and_timm_give_the_same_features() -> None:
    photos = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = sc.load_encoder(STARTER)(photos)
    by_timm = timm.create_model("colorize_eccv16_starter", pretrained=True, features_only=True).eval()
    with torch.no_grad():
        for ours, theirs in zip(maps.values(), by_timm(photos), strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)


def test_a_photo_is_colored_without_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos = open_photos(["samples"], split="all")
    index = next(index for index in range(len(photos)) if photos.name(index).startswith("coffee"))
    photo: Image.Image = photos[index]
    photo.save("coffee.png")
    result = CliRunner().invoke(main, ["colorize", "coffee.png", "-o", "out"])
    assert result.exit_code == 0 and STARTER in result.stderr
    colored = torch.from_numpy(np.asarray(Image.open("out/coffee.png")).copy()).permute(2, 0, 1)
    ab = rgb_to_lab(colored)[1:]
    # Gray has no chroma and sepia but one color; the warm table is what the photo is known for.
    assert ab.norm(dim=0).mean() > 5 and ab[1].mean() > 2


def test_a_folder_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / STARTER).mkdir()
    with pytest.raises(sc.errors.UserError, match="holds no model"):
        load_pretrained(STARTER)
