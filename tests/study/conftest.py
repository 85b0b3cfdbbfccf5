"""A prepared study of hand-made photos."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_photos import save_photos, silent

from ssl_colorize.data import open_photos
from ssl_colorize.score.methods import load_methods
from ssl_colorize.study.pictures import Pictures, prepare


@pytest.fixture
def few_photos(tmp_path: Path) -> Path:
    """A folder of four photos."""
    return save_photos(tmp_path / "photos", 4)


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos, in `photos`, and where they are prepared, in `run`."""
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="session")
def prepared(study_folder: Path) -> Pictures:
    """14 photos, as they are, gray, and with each other's colors; to be read only."""
    photos = open_photos([str(save_photos(study_folder / "photos"))], split="all")
    methods = load_methods(["gray", "random"])
    return prepare(photos, methods, study_folder / "run", needed=12, watch=silent, say=silent)
