"""Many photos: which goes where, and that no photo is ever written over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_colorize.album import colorize_all, find_inputs, plan, sheet_path, usual_checkpoint
from ssl_colorize.colorize import Colorizer
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model
from ssl_colorize.pictures import encode


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), 120, np.uint8)).save(path)
    return path


def targets(photos: list[Path], out: Path) -> list[str]:
    return [job.target.relative_to(out).as_posix() for job in plan(find_inputs(photos, out=out), out)]


def test_files_go_into_out_and_folders_keep_their_structure(tmp_path: Path) -> None:
    one = photo(tmp_path / "one.jpg")
    photo(tmp_path / "folder" / "two.jpg")
    photo(tmp_path / "folder" / "deep" / "down" / "three.webp")
    assert targets([one, tmp_path / "folder"], tmp_path / "out") == ["one.png", "deep/down/three.png", "two.png"]


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    assert targets([source], tmp_path) == ["a-colorized.png"]
    # The same file by another way: a link to its folder.
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert targets([source], tmp_path / "link") == ["a-colorized.png"]


def test_an_output_may_not_hit_another_input(tmp_path: Path) -> None:
    first, second = photo(tmp_path / "a.jpg"), photo(tmp_path / "a.png")
    assert targets([first, second], tmp_path) == ["a-colorized.png", "a-colorized-2.png"]


def test_two_inputs_never_share_an_output(tmp_path: Path) -> None:
    photos = [photo(tmp_path / name / "same.jpg") for name in ("x", "y", "z")]
    assert targets(photos, tmp_path / "out") == ["same.png", "same-2.png", "same-3.png"]
    # Some file systems take these for one name.
    assert targets([photo(tmp_path / "A.jpg"), photo(tmp_path / "x" / "a.jpg")], tmp_path / "out") == [
        "A.png",
        "a-2.png",
    ]
    # The sheet of the first would be the picture of the second.
    pair = [photo(tmp_path / "p.jpg"), photo(tmp_path / "p-compare.jpg")]
    assert targets(pair, tmp_path / "out") == ["p.png", "p-compare-2.png"]


def test_a_photo_given_twice_is_colored_once(tmp_path: Path) -> None:
    source = photo(tmp_path / "folder" / "a.jpg")
    assert targets([source, tmp_path / "folder", source], tmp_path / "out") == ["a.png"]


def test_strangers_in_the_output_folder_stay_and_own_work_is_replaced(tmp_path: Path) -> None:
    source = photo(tmp_path / "in" / "a.jpg")
    photo(tmp_path / "out" / "a.png")
    assert targets([source], tmp_path / "out") == ["a-colorized.png"]
    (tmp_path / "out" / "a.png").write_bytes(encode(Image.new("RGB", (8, 8)), "png"))
    assert targets([source], tmp_path / "out") == ["a.png"]


def test_results_inside_an_input_folder_are_not_colored_again(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "out" / "a.png")
    assert [source.name for source, _ in find_inputs([tmp_path], out=tmp_path / "out")] == ["a.jpg"]
    # Without a folder of its own, what lies there is a photo like any other.
    assert len(find_inputs([tmp_path], out=tmp_path)) == 2


def test_limit_takes_the_first(tmp_path: Path) -> None:
    for name in "abc":
        photo(tmp_path / f"{name}.jpg")
    assert [source.name for source, _ in find_inputs([tmp_path], limit=2)] == ["a.jpg", "b.jpg"]


def test_nothing_and_nowhere_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No photos given"):
        find_inputs([])
    with pytest.raises(UserError, match="nowhere"):
        find_inputs([tmp_path / "nowhere.jpg"])
    photo(tmp_path / "out" / "a.png")
    with pytest.raises(UserError, match="--out"):
        find_inputs([tmp_path], out=tmp_path / "out")


def test_pictures_are_written_beside_the_reason_for_those_that_are_not(tmp_path: Path) -> None:
    good = photo(tmp_path / "good.png")
    bad = tmp_path / "bad.jpg"
    bad.write_text("no photo")
    torch.manual_seed(0)
    colorizer = Colorizer(Pretrained(model=create_model("eccv16", width=0.125), input_size=16))
    first, second = colorize_all(colorizer, plan(find_inputs([bad, good]), tmp_path / "out" / "deep"))
    assert first.picture is None and str(bad) in first.problem
    assert second.picture is not None and second.original is not None
    with Image.open(tmp_path / "out" / "deep" / "good.png") as written:
        assert np.array_equal(np.asarray(written), np.asarray(second.picture))


def test_the_usual_checkpoint_is_the_one_written_last(tmp_path: Path) -> None:
    import os

    for age, name in enumerate(["b", "c", "a"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
        os.utime(tmp_path / name / "model.safetensors", (1000 - age, 1000 - age))
    (tmp_path / "unfinished").mkdir()
    assert usual_checkpoint(tmp_path) == str(tmp_path / "b")
    # Without one there is the network of the package.
    assert usual_checkpoint(tmp_path / "unfinished") == "eccv16_starter"


def test_the_sheet_lies_beside_the_picture() -> None:
    assert sheet_path(Path("out/x/a.b.jpg")) == Path("out/x/a.b-compare.png")
