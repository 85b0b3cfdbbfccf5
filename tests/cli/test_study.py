"""``ssl-colorize study`` from the outside, but for what a browser does with it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from random import Random

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image
from study_photos import save_photos

from ssl_colorize.cli import main
from ssl_colorize.study import serving
from ssl_colorize.study.pictures import Pictures
from ssl_colorize.study.protocol import ServeSettings, plan_session
from ssl_colorize.study.storage import DATABASE, Store, Times

FAST = ("--practice", "1", "--trials", "3", "--port", "0", "--device", "cpu")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["study", *arguments], catch_exceptions=False)


@pytest.fixture
def place(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs/tiny`, `photos/` with four photos, and a server that is stopped at once."""

    def serve(app: object, listener: socket.socket) -> None:
        listener.close()

    monkeypatch.setattr(serving, "serve", serve)
    save_photos(workplace / "photos", 4)
    return workplace


def take_part(folder: Path, *, fooled: int, method: str = "full", trials: int = 3) -> None:
    """A session that takes the first so many of its counted pairs' recolored photos for real."""
    pictures = Pictures.prepared(folder)
    assert pictures is not None
    settings = ServeSettings.resolve(file=folder / "config.yaml")
    store = Store(folder / DATABASE)
    pairs = plan_session(pictures.names, settings, Random(0))
    secret = store.begin([method], pairs, Random(0))
    for pair in pairs:
        standing = store.standing(secret)
        assert standing is not None and standing.token is not None
        wrong = pair.kind == "counted" and fooled > 0
        fooled -= wrong
        store.answer(secret, standing.token, picked_first=pair.real_first != wrong, times=Times(1000.0, 1000.0, 1.0))
    store.close()


def test_serve_prepares_says_where_and_counts(place: Path) -> None:
    result = run("serve", "photos", "--method", "full=runs/tiny", "--method", "gray", *FAST, "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert "Open http://127.0.0.1:" in result.stderr and "4 photos, 2 methods" in result.stderr
    assert result.stdout.splitlines()[-1] == "Next: ssl-colorize study report out"
    assert json.loads((place / "out" / "metrics.json").read_text())["metrics"]["answers"] == 0
    assert yaml.safe_load((place / "out" / "config.yaml").read_text())["methods"] == ["full=runs/tiny", "gray"]
    assert {path.name for path in (place / "out" / "photos").iterdir()} == {
        "truth", "full", "gray", ".vigilance", "photos.json",
    }  # fmt: skip


def test_a_study_goes_on_without_its_sources(place: Path) -> None:
    run("serve", "photos", "--method", "full=runs/tiny", *FAST, "-o", "out")
    take_part(place / "out", fooled=1)
    (place / "runs" / "tiny" / "model.safetensors").unlink()
    result = run("serve", "--resume", "out", "--contact", "Ada", "--port", "0", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["metrics"]["sessions"] == {"full": 1}
    result = run("serve", "--resume", "out", "--method", "gray", "--port", "0")
    assert result.exit_code == 2 and "a run of its own" in result.stderr
    result = run("serve", "photos", "--method", "gray", *FAST, "-o", "out")
    assert result.exit_code == 2 and "--resume out" in result.stderr


def test_report_says_who_was_fooled_how_often(place: Path) -> None:
    run("serve", "photos", "--method", "full=runs/tiny", "--method", "l2=gray", *FAST, "-o", "out")
    for fooled in (0, 1, 2, 3):
        take_part(place / "out", fooled=fooled)
    take_part(place / "out", fooled=0, method="l2")
    result = run("report", "out", "-o", "report", "--seed", "3")
    assert result.exit_code == 0, result.stderr
    content = json.loads((place / "report" / "metrics.json").read_text())
    full = content["metrics"]["methods"]["full"]
    assert (full["labeled_real"], full["participants"], full["pairs"]) == (6 / 12, 4, 12)
    # Shares 0, 1/3, 2/3, 1 of three pairs each: see the closed form in tests/study/test_analysis.py.
    shares = np.arange(4) / 3
    assert full["standard_error"] == pytest.approx(
        ((shares.var() + (shares * (1 - shares)).mean() / 3) / 4) ** 0.5, rel=0.03
    )
    assert content["seed"] == 3 and content["command"] == "ssl-colorize study report out -o report --seed 3"
    assert content["metrics"]["methods"]["l2"]["standard_error"] is None
    assert "50.0 +-" in result.stdout and "32.3 +- 2.2" in result.stdout, "beside the paper's"
    assert len((place / "report" / "answers.csv").read_text().splitlines()) == 1 + 5 * 4
    assert Image.open(place / "report" / "study.png").width > 800
    assert "Next: look at report/study.png" in result.stdout
    assert (
        json.loads(run("report", "out", "-o", "again", "--seed", "3", "--json").stdout)["metrics"] == content["metrics"]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "--method", "gray"), "No photos given"),
        (("serve", "photos"), "--method full=RUN"),
        (("serve", "photos", "--method", "x=nowhere"), "nowhere"),
        (("serve", "nowhere", "--method", "gray"), "nowhere"),
        (("serve", "photos", "--method", "gray", "--trials", "40"), "and there are 4"),
        (("serve", "photos", "--method", "a=gray", "--method", "a=gray"), "Two methods"),
        (("serve", "photos", "--method", "gray", "--host", "host.invalid"), "--host"),
        (("serve", "photos", "--method", "gray", "--set", "vigilance=2"), "vigilance"),
        (("report", "nowhere"), "study.sqlite"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(place: Path, arguments: tuple[str, ...], said: str) -> None:
    more = ("-o", "out", *(FAST[2:] if "--trials" in arguments else FAST)) if arguments[0] == "serve" else ("-o", "out")
    result = run(*arguments, *more)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Read: ")]
    assert len(lines) == 1 and lines[0].startswith("Error: ") and said in lines[0], result.stderr
    assert not (place / "out").exists()


def test_all_gray_photos_leave_nothing(place: Path) -> None:
    for path in (place / "photos").iterdir():
        Image.open(path).convert("L").save(path)
    result = run("serve", "photos", "--method", "gray", *FAST, "-o", "out")
    assert result.exit_code == 2 and "there are 0 that can be used" in result.stderr
    assert not (place / "out").exists()


def test_a_taken_port_is_said(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("serve", "photos", "--method", "gray", *FAST, "--port", port, "-o", "out")
    assert result.exit_code == 2 and f"port {port}" in result.stderr and "--port" in result.stderr
    assert not (place / "out").exists()


def test_nobody_has_answered_yet(place: Path) -> None:
    run("serve", "photos", "--method", "gray", *FAST, "-o", "out")
    result = run("report", "out", "-o", "report")
    assert result.exit_code == 2 and "Nobody has answered" in result.stderr and not (place / "report").exists()


def test_without_the_extra(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("serve", "photos", "--method", "gray", *FAST, "-o", "out")
    assert result.exit_code == 2 and "pip install 'ssl-colorize[study]'" in result.stderr
