"""Settings: what overrides what, and one line for every mistake."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, PositiveInt

from ssl_colorize.config import OneOrMany, Range, Settings, StepsOrEpochs, recipe_folder
from ssl_colorize.errors import UserError


class Example(Settings):
    rate: float = 1.0
    steps: int | None = 5
    names: tuple[str, ...] = ("a",)
    share: float = Field(0.5, ge=0, le=1)
    fast: bool = False


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "example.yaml"
    path.write_text("rate: 2\nsteps: 20\nfast: true\n", encoding="utf-8")
    return path


def test_flags_over_assignments_over_the_file_over_defaults(file: Path) -> None:
    assert Example.resolve() == Example()
    assert Example.resolve(file=file) == Example(rate=2, steps=20, fast=True)
    settings = Example.resolve(file=file, assignments=["rate=3", "steps=30"], flags={"rate": 4.0, "steps": None})
    assert settings == Example(rate=4, steps=30, fast=True)
    # The last of several assignments counts.
    assert Example.resolve(assignments=["rate=3", "rate=5"]).rate == 5


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("rate=3e-5", "rate", 3e-5),
        ("rate=3E2", "rate", 300.0),
        (" rate =  7", "rate", 7.0),
        ("steps=null", "steps", None),
        ("steps=1e3", "steps", 1000),
        ("steps=007", "steps", 7),
        ("names=[b, c]", "names", ("b", "c")),
        ("names=['x=y']", "names", ("x=y",)),
        ("fast=true", "fast", True),
    ],
)
def test_assignments_are_yaml_and_plain_scientific_numbers(text: str, field: str, value: object) -> None:
    assert getattr(Example.resolve(assignments=[text]), field) == value


def test_scientific_numbers_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("rate: 3e-5\n")
    assert Example.resolve(file=tmp_path / "a.yaml").rate == 3e-5


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("rate", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("rate=[1", "not a YAML value"),
        ("rate=fast", "Setting rate: .*'fast'"),
        ("rate=.nan", "Setting rate"),
        ("rate=1e999", "Setting rate"),
        ("share=1.5", "Setting share: .*less than or equal to 1.*1.5"),
        ("steps=2.5", "Setting steps"),
        ("stepps=3", r"Unknown setting 'stepps': choose from fast, names, rate, share, steps\."),
    ],
)
def test_mistakes_are_told_in_one_line(assignment: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as error:
        Example.resolve(assignments=[assignment])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"rate: [1", "not YAML"),
        (b"a: b: c", "not YAML"),
        (b"\xff\xfe\x00", "line 1, is not UTF-16"),
        (b"- rate", "must hold `key: value` lines"),
        (b"just words", "must hold `key: value` lines"),
        (b"3: 4", "must hold `key: value` lines"),
        (b"wrong: 1", "Unknown setting 'wrong' in .*example.yaml: choose from"),
        (b"rate: fast", "Setting rate in .*example.yaml"),
        (b"rate: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_bad_files_are_told_in_one_line(file: Path, content: bytes, complaint: str) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as error:
        Example.resolve(file=file)
    assert "\n" not in str(error.value) and "example.yaml" in str(error.value)


def test_an_empty_file_is_all_defaults(file: Path) -> None:
    file.write_text("# nothing\n")
    assert Example.resolve(file=file) == Example()


@pytest.mark.parametrize("name", ["none.yaml", "folder/quickstart", "", ".", "..", "/"])
def test_a_missing_file_lists_the_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"No configuration file .*eccv16_imagenet.*quickstart"):
        Example.resolve(file=name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_told(file: Path) -> None:
    file.chmod(0)
    with pytest.raises(UserError, match=r"example\.yaml"):
        Example.resolve(file=file)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Example().rate = 3.0


def test_recipes_of_the_package_are_found_by_name_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"quickstart.yaml", "eccv16_imagenet.yaml"} <= {path.name for path in recipe_folder().glob("*")}
    # A file of the user's own wins over a recipe of that name.
    monkeypatch.chdir(tmp_path)
    Path("quickstart.yaml").write_text("rate: 9\n")
    assert Example.resolve(file="quickstart.yaml").rate == 9


class Shapes(Settings):
    renamed: ClassVar[Mapping[str, str]] = {"colours": "colors"}

    colors: OneOrMany[str] = ()
    rates: OneOrMany[float] = Field((), min_length=0)
    sides: Range[PositiveInt] = (1, 2)


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("colors=red", "colors", ("red",)),
        ("colors=[red, blue]", "colors", ("red", "blue")),
        ("rates=0.5", "rates", (0.5,)),
        ("rates=3", "rates", (3.0,)),
        ("sides=5", "sides", (5, 5)),
        ("sides=[5, 7]", "sides", (5, 7)),
    ],
)
def test_one_value_stands_for_several_or_for_a_range(assignment: str, field: str, value: object) -> None:
    assert getattr(Shapes.resolve(assignments=[assignment]), field) == value


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("sides=[7, 5]", r"Setting sides: must be \[low, high\] with low <= high, not \[7, 5\]"),
        ("sides=[0, 5]", "greater than 0"),
        ("colors=[[red]]", r"Setting colors.0: .*string"),
    ],
)
def test_what_is_no_range_is_told(assignment: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Shapes.resolve(assignments=[assignment])


def test_files_of_earlier_versions_are_read_under_the_new_names(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("colours: [red]\n")
    assert Shapes.resolve(file=tmp_path / "old.yaml").colors == ("red",)
    assert Shapes.checked({"colours": "red"}).colors == ("red",)
    with pytest.raises(UserError, match="Unknown setting 'colour'"):
        Shapes.resolve(assignments=["colour=red"])


class Training(StepsOrEpochs):
    steps: int | None = 100


def test_steps_and_epochs_replace_each_other(tmp_path: Path) -> None:
    assert (Training().steps, Training().epochs) == (100, None)
    assert (Training(epochs=2).steps, Training(epochs=2).epochs) == (None, 2)
    (tmp_path / "a.yaml").write_text("steps: null\nepochs: 4\n")
    assert Training.resolve(file=tmp_path / "a.yaml").epochs == 4
    for asked in ({"assignments": ["steps=5"]}, {"flags": {"steps": 5, "epochs": None}}):
        settings = Training.resolve(file=tmp_path / "a.yaml", **asked)  # type: ignore[arg-type]
        assert (settings.steps, settings.epochs) == (5, None)


@pytest.mark.parametrize("asked", [["steps=5", "epochs=2"], ["steps=null"]])
def test_neither_or_both_is_a_mistake(asked: list[str]) -> None:
    with pytest.raises(UserError, match="steps or epochs, not both"):
        Training.resolve(assignments=asked)


class Needed(Settings):
    data: str
    limit: int = 3


def test_a_missing_setting_is_named_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("limit: 5\n")
    with pytest.raises(UserError, match=r"^Setting data in .*a\.yaml: Field required\.$"):
        Needed.resolve(file=tmp_path / "a.yaml")
