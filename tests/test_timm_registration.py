"""timm is told of our networks in whatever order things are imported, and nobody waits for timm who does not use it."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from ssl_colorize.timm_registration import ImportHook, import_after

NAMES = ("stand_in_timm", "stand_in_models")


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Packages in place of timm and of our models, which note in a list that they were there, and in what order."""
    inside = f"import {NAMES[0]}\nassert {NAMES[0]}.ready\n{NAMES[0]}.told.append('models')\n"
    (tmp_path / f"{NAMES[0]}").mkdir()
    (tmp_path / NAMES[0] / "__init__.py").write_text(f"told = []\nfrom {NAMES[0]} import inner\nready = True\n")
    (tmp_path / NAMES[0] / "inner.py").write_text("")
    (tmp_path / f"{NAMES[1]}.py").write_text(inside)
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    sys.meta_path[:] = [finder for finder in before if not waiting(finder)]
    yield
    for name in [name for name in sys.modules if name.startswith("stand_in")]:
        del sys.modules[name]
    # The one that waits for timm itself waits on.
    sys.meta_path[:] = before


def waiting(finder: object) -> bool:
    return isinstance(finder, ImportHook)


def told() -> list[str]:
    words: list[str] = sys.modules[NAMES[0]].told
    return words


def test_first_we_then_timm(stand_ins: None) -> None:
    import_after(*NAMES)
    assert NAMES[0] not in sys.modules and NAMES[1] not in sys.modules
    importlib.import_module(NAMES[0])
    assert told() == ["models"] and not any(map(waiting, sys.meta_path))


def test_first_timm_then_we(stand_ins: None) -> None:
    importlib.import_module(NAMES[0])
    assert NAMES[1] not in sys.modules
    import_after(*NAMES)
    assert told() == ["models"] and not any(map(waiting, sys.meta_path))


def test_a_part_of_timm_first(stand_ins: None) -> None:
    import_after(*NAMES)
    importlib.import_module(f"{NAMES[0]}.inner")
    assert told() == ["models"]


def test_asking_for_timm_is_not_importing_it(stand_ins: None) -> None:
    import_after(*NAMES)
    import_after(*NAMES)
    assert sum(map(waiting, sys.meta_path)) == 1
    for _ in range(2):
        found = find_spec(NAMES[0])
        assert found is not None and found.origin is not None and found.origin.endswith("__init__.py")
    assert NAMES[0] not in sys.modules
    module = importlib.import_module(NAMES[0])
    assert told() == ["models"] and module.__spec__ is not None
    assert type(module.__spec__.loader).__module__.startswith("_frozen_importlib")


def test_without_timm_nothing_happens(stand_ins: None) -> None:
    import_after("stand_in_of_nothing", NAMES[1])
    with pytest.raises(ModuleNotFoundError, match="stand_in_of_nothing"):
        importlib.import_module("stand_in_of_nothing")


def test_our_import_brings_nothing_heavy() -> None:
    lines = "import ssl_colorize.cli, sys; print(sorted({'timm', 'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
