"""What --data names is what is read, and what is held out stays held out."""

import hashlib
import pickle
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from ssl_colorize.data import torchvision_sets
from ssl_colorize.data.photos import PhotoFiles, Photos
from ssl_colorize.data.samples import SamplePhotos
from ssl_colorize.data.sources import leave_out, open_photos
from ssl_colorize.errors import UserError


def make(root: Path, *names: str) -> Path:
    """Photos of one color each, told by their name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), color_of(name)).save(path, format="PNG")
    return root


def color_of(name: str) -> tuple[int, int, int]:
    red, green, blue = hashlib.sha256(name.encode()).digest()[:3]
    return red, green, blue


def names(photos: Photos) -> list[str]:
    return [photos.name(i) for i in range(len(photos))]


# --- folders ---------------------------------------------------------------------------------------------------------


def test_plain_and_nested_folders(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "a/x.png", "a/deep/y.PNG")
    photos = open_photos([str(tmp_path)])
    assert names(photos) == ["a/deep/y.PNG", "a/x.png", "b.png"]
    assert photos[1].getpixel((0, 0)) == color_of("a/x.png")
    assert names(open_photos([f"{tmp_path}/"])) == names(photos)


def test_training_reads_only_train(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/1.png", "train/val/2.png", "val/cat/3.png", "test/4.png", "extra/5.png", "6.png")
    # Below train/, a class may be called val.
    assert names(open_photos([str(tmp_path)])) == ["train/cat/1.png", "train/val/2.png"]
    assert len(open_photos([str(tmp_path)], split="all")) == 6


def test_folder_of_data_sets(tmp_path: Path) -> None:
    make(tmp_path, "one/train/a.png", "one/val/b.png", "two/train/c.png", "loose/d.png", "loose/test/e.png")
    assert names(open_photos([str(tmp_path)])) == ["loose/d.png", "one/train/a.png", "two/train/c.png"]


def test_only_measuring_folders_is_an_error_that_names_them(tmp_path: Path) -> None:
    make(tmp_path, "val/a.png", "test/b.png")
    with pytest.raises(UserError, match="test/, val/"):
        open_photos([str(tmp_path)])
    # Naming the folder itself is a clear wish.
    assert names(open_photos([str(tmp_path / "val")])) == ["a.png"]


@pytest.mark.parametrize("above", ["", "VOCdevkit/VOC2012/"])
def test_voc_folder_reads_its_training_list(tmp_path: Path, above: str) -> None:
    voc = tmp_path / above
    make(voc, "JPEGImages/1.jpg", "JPEGImages/2.jpg", "JPEGImages/3.jpg", "SegmentationClass/1.png")
    assert len(open_photos([str(tmp_path)])) == 3  # no lists: all of them, and no mask
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "ImageSets/Main/trainval.txt").write_text("1\n2\n")
    assert names(open_photos([str(tmp_path)])) == [f"{above}JPEGImages/1.jpg", f"{above}JPEGImages/2.jpg"]
    (voc / "ImageSets/Main/train.txt").write_text("2 \n\n")
    assert names(open_photos([str(tmp_path)])) == [f"{above}JPEGImages/2.jpg"]
    assert len(open_photos([str(tmp_path)], split="all")) == 3


def test_files_and_several_items(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "one/b.png", "two/c.png")
    photos = open_photos([str(tmp_path / "two/c.png"), str(tmp_path / "one")])
    assert names(photos) == ["c.png", "a.png", "b.png"]


def test_a_photo_given_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "one/a.png", "one/b.png")
    monkeypatch.chdir(tmp_path)
    assert len(open_photos([str(tmp_path), "one", "one/a.png"])) == 2


def test_what_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.doc").touch()
    (tmp_path / "a.txt").touch()
    cases = {
        str(tmp_path / "missing"): "missing",
        str(tmp_path / "empty"): "holds no photos",
        str(tmp_path / "a.doc"): "not a photo by its name",
        str(tmp_path / "a.txt"): "lists no photos",
        "cifar": "Did you mean cifar10",
    }
    for item, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            open_photos([item])
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="imagenette"):
        open_photos(["nonsense"])
    with pytest.raises(UserError, match="--data"):
        open_photos([])
    with pytest.raises(UserError, match="--limit"):
        open_photos(["samples"], limit=0)


# --- limit and holdout -----------------------------------------------------------------------------------------------


def numbered(root: Path, count: int) -> Path:
    """Names are all that these tests need."""
    root.mkdir(parents=True)
    for number in range(count):
        (root / f"{number:04d}.jpg").touch()
    return root


def test_limit_picks_evenly_and_always_the_same(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "a", 1000)
    chosen = names(open_photos([str(folder)], limit=100))
    assert len(set(chosen)) == 100
    assert chosen == sorted(chosen)
    assert chosen == names(open_photos([str(folder)], limit=100))
    assert set(names(open_photos([str(folder)], limit=50))) < set(chosen)
    # Not the first ones: 100 of 1000 at random lie half below the middle, with a deviation of 5.
    assert 30 <= sum(name < "0500" for name in chosen) <= 70
    assert len(open_photos([str(folder)], limit=5000)) == 1000


def test_holdout_is_disjoint_complete_and_the_same_elsewhere(tmp_path: Path) -> None:
    train, held = open_photos([str(numbered(tmp_path / "a", 400))]).holdout(0.1, most=1000)
    assert len(held) == 40
    assert not set(names(train)) & set(names(held))
    assert len(set(names(train)) | set(names(held))) == 400
    _, elsewhere = open_photos([str(numbered(tmp_path / "far/away", 400))]).holdout(0.1, most=1000)
    assert names(elsewhere) == names(held)
    assert 8 <= sum(name < "0200" for name in names(held)) <= 32
    _, fewer = open_photos([str(tmp_path / "a")]).holdout(0.1, most=7)
    assert len(fewer) == 7
    assert set(names(fewer)) < set(names(held))


def test_holdout_is_independent_of_limit(tmp_path: Path) -> None:
    """With one hash for both, a limited set would be all held out first."""
    photos = open_photos([str(numbered(tmp_path / "a", 1000))])
    held = set(names(photos.holdout(0.1, most=1000)[1]))
    shared = held & set(names(photos.limit(100)))
    assert len(shared) <= 30


def test_holdout_of_few_photos(tmp_path: Path) -> None:
    two = open_photos([str(numbered(tmp_path / "two", 2))])
    assert [len(part) for part in two.holdout(0.001, most=5)] == [1, 1]
    assert [len(part) for part in two.holdout(0.999, most=5)] == [1, 1]
    one = open_photos([str(numbered(tmp_path / "one", 1))])
    with pytest.raises(UserError, match="at least 2"):
        one.holdout(0.5, most=5)


def test_taken_photos_are_in_the_order_asked_for(tmp_path: Path) -> None:
    photos = open_photos([str(make(tmp_path, "a.png", "b.png")), "samples"])
    whole = names(photos)
    for order in ([0, 1, 2, 3], [3, 0, 2, 1, 1], [2]):
        assert names(photos.take(order)) == [whole[index] for index in order]


def test_sets_pickle_small(tmp_path: Path) -> None:
    photos = open_photos([str(make(tmp_path, "a.png", "b.png")), "samples"])
    photos[len(photos) - 1]
    stored = pickle.dumps(photos)
    assert len(stored) < 10_000
    copy = pickle.loads(stored)
    assert names(copy) == names(photos)
    assert copy[0].getpixel((0, 0)) == color_of("a.png")


def test_indices_past_the_end_are_an_error(tmp_path: Path) -> None:
    photos = open_photos([str(make(tmp_path, "a.png")), "samples"])
    for one in (photos, open_photos(["samples"]), open_photos([str(tmp_path)])):
        with pytest.raises(IndexError):
            one[len(one)]


# --- samples ---------------------------------------------------------------------------------------------------------


def test_samples_are_real_color_photos() -> None:
    photos = open_photos(["samples"])
    assert {"astronaut.png", "china.jpg", "flower.jpg"} <= set(names(photos))
    for index in range(len(photos)):
        pixels = np.asarray(photos[index]).astype(int)
        spread = pixels.max(axis=-1) - pixels.min(axis=-1)
        assert min(pixels.shape[:2]) >= 256
        assert spread.mean() > 15, f"{photos.name(index)} is nearly gray"


def test_samples_hold_out_the_right_quarter_of_each_photo() -> None:
    whole = open_photos(["samples"])
    assert isinstance(whole, SamplePhotos)
    train, held = whole.holdout(0.05, most=1000)
    for index in range(len(whole)):
        width, height = whole[index].size
        file = whole.name(index)
        trained, kept = np.zeros((height, width), int), np.zeros((height, width), int)
        for part, count in ((train, trained), (held, kept)):
            for number in (i for i in range(len(part)) if part.name(i).startswith(file)):
                left, top, right, bottom = eval(part.name(number).removeprefix(file))
                count[top:bottom, left:right] += 1
        edge = round(0.75 * width)
        # Each pixel is in one of the two: at least once in training, exactly once in what is held out.
        assert (trained[:, :edge] >= 1).all()
        assert (trained[:, edge:] == 0).all()
        assert (kept[:, :edge] == 0).all()
        assert (kept[:, edge:] == 1).all()


def test_sample_tiles_are_squarish_and_show_their_region() -> None:
    photos = open_photos(["samples"])
    whole = {photos.name(index): photos[index] for index in range(len(photos))}
    train, held = photos.holdout(0.05, most=1000)
    for part in (train, held):
        for index in range(len(part)):
            width, height = part[index].size
            assert 0.5 < width / height < 2
            pixels = np.asarray(whole[part.name(index).split("[")[0]])
            left, top, right, bottom = eval("[" + part.name(index).split("[")[1])
            assert np.array_equal(np.asarray(part[index]), pixels[top:bottom, left:right])


def test_samples_beside_a_folder_hold_out_each_in_its_way(tmp_path: Path) -> None:
    photos = open_photos(["samples", str(numbered(tmp_path / "a", 100))])
    train, held = photos.holdout(0.1, most=10)
    files = [name for name in names(held) if "[" not in name]
    assert len(files) == 9  # most is shared by size: 100 of 108
    assert len(held) == 10
    assert not set(names(train)) & set(names(held))


def test_a_single_file_beside_samples_just_trains(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    train, held = open_photos(["samples", str(tmp_path / "a.png")]).holdout(0.1, most=10)
    assert "a.png" in names(train)
    assert all("[" in name for name in names(held))


def test_samples_missing_from_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_colorize.data.samples.find_spec", lambda package: None)
    with pytest.raises(UserError, match="pip install"):
        open_photos(["samples"])


# --- torchvision -----------------------------------------------------------------------------------------------------


class StandIn:
    """Takes the place of a torchvision class: there is something on the disk once it was downloaded."""

    calls: list[dict[str, Any]]
    count = 3

    def __init__(self, root: str, *, download: bool, **options: Any) -> None:
        self.calls.append({"download": download, **options})
        self.marker = Path(root) / "marker"
        if download:
            self.marker.touch()
        elif not self.marker.exists():
            raise RuntimeError("Dataset not found. You can use download=True to download it")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("L", (4, 4), 10 * index), 7


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    monkeypatch.setattr(StandIn, "calls", [], raising=False)
    for name in ("CIFAR10", "STL10"):
        monkeypatch.setattr(torchvision.datasets, name, StandIn)
    return StandIn


def test_torchvision_set_is_downloaded_once_and_read_without_labels(tmp_path: Path, stand_in: type[StandIn]) -> None:
    photos = open_photos(["cifar10"], root=tmp_path / "new")
    assert stand_in.calls == [{"download": False, "train": True}, {"download": True, "train": True}]
    assert names(photos) == ["cifar10-0/000000", "cifar10-0/000001", "cifar10-0/000002"]
    assert photos[2].mode == "RGB"
    assert photos[2].getpixel((0, 0)) == (20, 20, 20)
    assert names(photos.take([2])) == ["cifar10-0/000002"]
    stand_in.calls.clear()
    everything = open_photos(["cifar10"], split="all", root=tmp_path / "new")
    assert stand_in.calls == [{"download": False, "train": True}, {"download": False, "train": False}]
    assert len(set(names(everything))) == 6


def test_torchvision_root_comes_from_the_environment(
    tmp_path: Path, stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_COLORIZE_DATA", str(tmp_path / "there"))
    open_photos(["stl10"])
    assert (tmp_path / "there/marker").exists()
    assert stand_in.calls[0]["split"] == "train+unlabeled"


def test_torchvision_set_of_files_is_read_as_files(tmp_path: Path) -> None:
    """The real class, on files laid out as its archive has them."""
    make(tmp_path, "imagenette2-320/train/n01440764/a.JPEG", "imagenette2-320/train/n02102040/b.JPEG")
    make(tmp_path, "imagenette2-320/val/n01440764/c.JPEG")
    photos = open_photos(["imagenette"], root=tmp_path)
    assert isinstance(photos, PhotoFiles)
    first = "imagenette2-320/train/n01440764/a.JPEG"
    assert photos.name(0) == first
    assert photos[0].getpixel((0, 0)) == color_of(first)
    assert len(photos) == 2
    assert len(open_photos(["imagenette"], split="all", root=tmp_path)) == 3


def test_voc_by_name_reads_the_training_photos(tmp_path: Path) -> None:
    voc = tmp_path / "VOCdevkit/VOC2012"
    make(voc, "JPEGImages/1.jpg", "JPEGImages/2.jpg")
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "ImageSets/Main/train.txt").write_text("2\n")
    (voc / "ImageSets/Main/val.txt").write_text("1\n")
    assert names(open_photos(["voc2012"], root=tmp_path)) == ["VOCdevkit/VOC2012/JPEGImages/2.jpg"]
    assert len(open_photos(["voc2012"], split="all", root=tmp_path)) == 2


def test_every_named_set_exists_in_torchvision() -> None:
    for known in torchvision_sets.TORCHVISION_SETS.values():
        accepted = getattr(torchvision.datasets, known.class_name).__init__.__code__.co_varnames
        for part in known.parts:
            assert set(known.options(part)) <= set(accepted)
        assert known.home.startswith("http")


@pytest.mark.parametrize("name", sorted(torchvision_sets.TORCHVISION_SETS))
def test_no_internet_is_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(UserError, match="Name or service not known") as caught:
        open_photos([name], root=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert torchvision_sets.TORCHVISION_SETS[name].home in message
    assert str(tmp_path) in message


def test_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", full)
    with pytest.raises(UserError, match="SSL_COLORIZE_DATA"):
        open_photos(["cifar10"], root=tmp_path)


def test_sizes_are_those_of_the_photos_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (9, 5)).save(tmp_path / "set" / "a.jpg", exif=turned)
    Image.new("RGB", (7, 3)).save(tmp_path / "set" / "b.png")
    both = open_photos([str(tmp_path / "set"), "samples"], split="all")
    assert {both.size(index) for index in range(len(both)) if "." in both.name(index)} >= {(5, 9), (7, 3)}
    for index in (0, 1, 2, len(both) - 1):
        assert both.size(index) == both.read(index).size


def test_photos_can_be_left_out_by_name(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    photos, file = open_photos(train=[str(tmp_path / "photos")]), tmp_path / "out.txt"
    file.write_text("a/2.png\nsomewhere/else.png\n")
    kept = leave_out(photos, file)
    assert [kept.name(index) for index in range(len(kept))] == ["a/1.png", "b/1.png"]
    file.write_text("")
    assert len(leave_out(photos, file)) == 3
    for text, said in (("2.png\n", "called like 'a/1.png'"), ("a/1.png\na/2.png\nb/1.png\n", "leaves no photo")):
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            leave_out(photos, file)
    with pytest.raises(UserError, match="Cannot read"):
        leave_out(photos, tmp_path / "missing.txt")


def test_an_exclude_list_says_what_matched(tmp_path: Path) -> None:
    make(tmp_path, "set/a.png", "set/b (1).png", "set/\u00e9.png", "other/a.png", "set/c.png")
    photos, file = open_photos(train=[str(tmp_path / "set"), str(tmp_path / "other")]), tmp_path / "out.txt"
    # A byte order mark, a comment, a name that two photos have, one that is there twice, one written the other way.
    lines = ["# near copies", "a.png", "./b (1).png", "b (1).png", "e\u0301.png", "gone.png", "lost.png"]
    file.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    kept = leave_out(photos, file)
    assert names(kept) == ["c.png"]
    (said,) = kept.reading.findings
    assert "3 of the 5 names in out.txt matched" in said and "4 in all" in said and "1 are there twice" in said
    assert "not 'gone.png', 'lost.png'" in said
    assert kept.reading.sources[0].passed["excluded"] == {"a.png", "b (1).png", "\u00e9.png"}
