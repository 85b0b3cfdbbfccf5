"""``ssl-colorize colorize`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from ssl_colorize.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["colorize", *arguments], catch_exceptions=False)


def test_a_folder_comes_back_in_color(photos: Path) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.jpg")}
    result = run("photos", "-o", "out", "--compare")
    assert result.exit_code == 0, result.stderr
    out = Path("out")
    for path in before:
        target = out / path.relative_to(photos).with_suffix(".png")
        with Image.open(target) as picture, Image.open(path) as original:
            assert picture.size == original.size
        assert target.with_name(f"{target.stem}-compare.png").exists()
    assert {path: path.read_bytes() for path in photos.rglob("*.jpg")} == before
    assert result.stdout.splitlines()[-1].startswith("Next: look at out/0-compare.png")
    # The newest run was found by itself, and the settings say which.
    assert yaml.safe_load((out / "config.yaml").read_text())["checkpoint"] == "runs/tiny"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["metrics"]["photos"] == 8 and metrics["metrics"]["photos_per_second"] > 0
    assert metrics["command"] == "ssl-colorize colorize photos -o out --compare"


def test_again_into_the_same_folder_replaces_own_work(photos: Path) -> None:
    run("photos", "-o", "out")
    files = sorted(Path("out").rglob("*"))
    run("photos", "-o", "out")
    assert sorted(Path("out").rglob("*")) == files


def test_into_the_photos_own_folder_nothing_is_lost(photos: Path) -> None:
    Image.open(photos / "0.jpg").save(photos / "0.png")
    before = {path: path.read_bytes() for path in photos.rglob("*.*g")}
    assert run("photos/0.png", "photos/0.jpg", "-o", "photos").exit_code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert (photos / "0-colorized.png").exists() and (photos / "0-colorized-2.png").exists()


def test_json_alone_on_standard_output(photos: Path) -> None:
    result = run("photos", "-o", "out", "--limit", "2", "--format", "jpg", "--json")
    content = json.loads(result.stdout)
    assert content == json.loads(Path("out/metrics.json").read_text())
    assert content["metrics"]["photos"] == 2
    assert "Next: " in result.stderr
    assert len(list(Path("out").glob("*.jpg"))) == 2


def test_unreadable_photos_are_skipped_counted_and_listed(photos: Path) -> None:
    (photos / "bad.jpg").write_text("no photo")
    result = run("photos", "-o", "out", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["metrics"] | {"photos": 8, "unreadable": 1} == json.loads(result.stdout)["metrics"]
    assert Path("out/unreadable.txt").read_text().startswith("photos/bad.jpg: ")
    assert "1 of 9" in result.stderr
    (photos / "bad.jpg").unlink()
    run("photos", "-o", "out")
    assert not Path("out/unreadable.txt").exists(), "the list of an earlier run stayed"


def test_nothing_colored_is_a_mistake(photos: Path) -> None:
    (photos / "bad.jpg").write_text("no photo")
    result = run("photos/bad.jpg", "-o", "out")
    assert result.exit_code == 2
    assert "None of the 1 photos" in result.stderr
    assert Path("out/unreadable.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "No photos given"),
        (("missing.jpg",), "missing.jpg"),
        (("photos", "--checkpoint", "elsewhere"), "elsewhere"),
        (("photos", "--set", "temprature=1"), "temperature"),
        (("photos", "--set", "temperature=-1"), "temperature"),
        (("photos", "--config", "none.yaml"), "none.yaml"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(photos: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Read: ")]
    assert len(lines) == 1 and lines[0].startswith("Error: ") and said in lines[0], result.stderr
    assert [folder.name for folder in Path("runs").iterdir()] == ["tiny"]


def test_without_a_run_the_network_of_the_package_colors(photos: Path) -> None:
    Path("runs/tiny/model.safetensors").unlink()
    result = run("photos", "-o", "out")
    assert result.exit_code == 0 and "eccv16_starter" in result.stderr
    assert yaml.safe_load(Path("out/config.yaml").read_text())["checkpoint"] == "eccv16_starter"


def test_flags_win_over_set_which_wins_over_the_file(photos: Path) -> None:
    Path("c.yaml").write_text("temperature: 0.9\nsize: 16\nphotos: [photos/0.jpg]\n")
    run("--config", "c.yaml", "--set", "size=24", "--set", "temperature=0.8", "--temperature", "0.7", "-o", "out")
    config = yaml.safe_load(Path("out/config.yaml").read_text())
    assert (config["temperature"], config["size"], config["photos"]) == (0.7, 24, ["photos/0.jpg"])
    # What a run wrote can be run again.
    assert run("--config", "out/config.yaml", "-o", "again").exit_code == 0
    assert Path("again/0.png").read_bytes() == Path("out/0.png").read_bytes()
