"""What verbs say first of what they read, --dry-run, `read` in metrics.json, and resuming with other photos."""

import json
from pathlib import Path

import pytest
from annotated_sets import voc_boxes
from click.testing import CliRunner, Result
from PIL import Image

from ssl_colorize.cli import main
from ssl_colorize.data.reading import Reading
from ssl_colorize.engine.checkpoint import load_checkpoint, save_checkpoint


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photos, class folders and a VOC folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        kind = ("cat", "dog")[number % 2]
        for path in (Path("photos", f"{number}.png"), Path("classes", kind, f"{number}.png")):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (20 * number, 200 - 20 * number, 90)).save(path)
    Path("photos", "raw.CR2").touch()
    box = [("cat", 1, 1, 9, 9)]
    voc_boxes(tmp_path / "voc", {"train": {"a": box, "b": box}, "val": {"c": box}})
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("pretrain --data photos", "Read: 10 photos from photos (photos): 9 train, 1 held out; passed over 1 (1 RAW"),
        ("prior --data photos", "Read: 10 photos from photos (photos); passed over 1 (1 RAW"),
        ("colorize photos --checkpoint nothing", "Read: 10 photos from photos (photos); passed over 1 (1 RAW"),
        ("predict nothing photos", "Read: 10 photos from photos (photos); passed over 1 (1 RAW"),
        ("score --data photos --method a=nothing", "Read: 10 photos from photos (photos); passed over 1 (1 RAW"),
        ("study serve photos --method a=nothing", "Read: 10 photos from photos (photos); passed over 1 (1 RAW"),
        ("knn --encoder nothing --data classes", "Read: 10 photos of 2 classes from classes (class folders"),
        ("svm --encoder nothing --data classes", "Read: 10 photos of 2 classes from classes (class folders"),
        ("linear-probe --encoder nothing --data classes", "Read: 10 photos of 2 classes from classes (class folders"),
        ("finetune classification --encoder nothing --data classes", "Read: 10 photos of 2 classes from classes"),
        ("finetune detection --encoder nothing --data voc", "Read: 3 photos of 1 class from voc (VOC"),
    ],
)
def test_a_dry_run_says_what_is_read_loads_nothing_and_leaves_nothing(place: Path, arguments: str, line: str) -> None:
    before = sorted(place.rglob("*"))
    result = run(*arguments.split(), "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(line) and not result.stdout
    record = json.loads(run(*arguments.split(), "--dry-run", "--json", "-o", "out").stdout)
    assert record["photos"] == len([*place.glob("photos/*.png")]) or "classes" in arguments or "voc" in arguments
    assert record["sources"][0]["path"] in arguments
    assert sorted(place.rglob("*")) == before


def test_a_dry_run_beside_a_run_that_is_there_changes_nothing(place: Path) -> None:
    Path("out").mkdir()
    Path("out", "checkpoint.pt").write_text("a run")
    result = run("pretrain", "--data", "photos", "-o", "out", "--dry-run")
    assert result.exit_code == 0 and [path.name for path in Path("out").iterdir()] == ["checkpoint.pt"]


def test_a_dry_run_still_names_mistakes(place: Path) -> None:
    result = run("knn", "--encoder", "x", "--data", "nowhere", "--dry-run")
    assert result.exit_code == 2 and result.stderr.startswith("Error: ") and "nowhere" in result.stderr


def test_what_turns_out_unreadable_is_in_metrics_json(place: Path) -> None:
    Path("photos", "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = run("prior", "--data", "photos", "-o", "out", "--workers", "0")
    assert result.exit_code == 0, result.stderr
    read = json.loads(Path("out", "metrics.json").read_text())["read"]
    assert read["photos"] == 11 and read["passed_over"] == {"raw": 1, "unreadable": 1}
    (example,) = read["sources"][0]["passed_over"]["unreadable"]["examples"]
    assert "broken.jpg" in example
    assert read["fingerprint"].startswith("11-")


PRETRAIN = (
    "pretrain --data photos -o out --steps 2 --batch-size 4 --workers 0 --device cpu --width 0.1 --set resize=40 "
    "--set crop=32 --set init=plain --set prior_photos=8 --set holdout=0.3 --seed 1"
)


def held_out(folder: str) -> set[int]:
    return set(load_checkpoint(Path(folder), "pretrain").extra["photos"]["held_out"][:, 0].tolist())


def test_pretraining_does_not_go_on_with_other_photos_unless_told(place: Path) -> None:
    assert run(*PRETRAIN.split()).exit_code == 0
    before = held_out("out")
    assert len(before) == 3
    assert run("pretrain", "--resume", "out").exit_code == 0  # the same photos
    for number in range(10, 30):
        Image.new("RGB", (40, 30), (0, 9 * number, 90)).save(Path("photos", f"{number}.png"))
    result = run("pretrain", "--resume", "out")
    assert result.exit_code == 2 and "20 added" in result.stderr and "data_changed=allow" in result.stderr
    assert held_out("out") == before, "nothing is lost"
    result = run("pretrain", "--resume", "out", "--set", "data_changed=allow")
    assert result.exit_code == 2 and "finished, and learned from other photos" in result.stderr, result.stderr
    result = run("pretrain", "--resume", "out", "--dry-run", "--set", "steps=3", "--set", "data_changed=allow")
    assert result.exit_code == 0 and result.stderr.startswith("Read: 30 photos from photos"), result.stderr
    assert json.loads(Path("out", "metrics.json").read_text())["read"]["photos"] == 10
    result = run("pretrain", "--resume", "out", "--set", "steps=3", "--set", "data_changed=allow")
    assert result.exit_code == 0 and "20 added" in result.stderr, result.stderr
    read = json.loads(Path("out", "metrics.json").read_text())["read"]
    assert read["splits"]["train"] + read["splits"]["held_out"] == 30
    # It was asked once, and is not kept.
    assert "data_changed" not in Path("out", "config.yaml").read_text()


def test_a_run_that_noted_no_photos_goes_on_and_says_so(place: Path) -> None:
    assert run(*PRETRAIN.split()).exit_code == 0
    checkpoint = load_checkpoint(Path("out"), "pretrain")
    del checkpoint.extra["photos"]
    save_checkpoint(checkpoint, Path("out"))
    result = run("pretrain", "--resume", "out")
    assert result.exit_code == 0 and "cannot be told" in result.stderr


def test_held_out_photos_stay_held_out_when_photos_go(place: Path) -> None:
    from ssl_colorize.data.fingerprint import Fingerprint
    from ssl_colorize.pretrain.config import Recipe
    from ssl_colorize.pretrain.photos import recipe_photos

    recipe = Recipe.checked({"data": "photos", "holdout": 0.3, "holdout_photos": 3})
    train, held = recipe_photos(recipe)
    before = Fingerprint.of(train=train, held_out=held)
    for number in range(10, 200):
        Image.new("RGB", (40, 30)).save(Path("photos", f"{number}.png"))
    Path("photos", held.name(0)).unlink()
    stayed, learned = {held.name(1), held.name(2)}, {train.name(index) for index in range(len(train))}
    fresh, _ = recipe_photos(recipe)
    assert {fresh.name(index) for index in range(len(fresh))} & stayed, "the rule alone would train on one of them"
    now, out = recipe_photos(recipe, before.stored())
    names = {out.name(index) for index in range(len(out))}
    assert names >= stayed and not names & learned
    assert isinstance(now.reading, Reading) and len(now) + len(out) == 199


@pytest.mark.parametrize("arguments", ["colorize {}", "prior --data {}", "knn --encoder x --data {}"])
def test_a_name_that_is_too_long_is_one_line(place: Path, arguments: str) -> None:
    result = run(*arguments.format("x" * 300).split())
    assert result.exit_code == 2 and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert not Path("runs").exists() or not list(Path("runs").iterdir())
