"""The rooms of the package and what each may import: arrows point one way, and no two modules import each other."""

import ast
from functools import cache
from pathlib import Path

import pytest

import ssl_colorize

PACKAGE = Path(ssl_colorize.__file__).parent
# Files at the root that are tools, known to all rooms but color.
TOOLS = {"config", "device", "errors", "pictures", "runs", "text"}
# Room -> the rooms whose modules it may import, beside its own and the tools. A room is a folder or a file at the root.
ARROWS: dict[str, set[str]] = {
    "color": set(),
    "engine": set(),
    "data": {"color"},
    "models": {"color", "data"},
    "timm_registration": {"models"},
    "encoder": {"color", "data", "models"},
    "prior": {"color", "data", "models"},
    "pretrain": {"color", "data", "models", "engine", "prior"},
    "colorize": {"color", "data", "models"},
    "album": {"data", "models", "colorize"},
    "evaluate": {"color", "data", "models", "encoder", "engine"},
    "finetune": {"color", "data", "models", "encoder", "engine", "evaluate"},
    # Puts pretraining and measuring together, which know nothing of each other.
    "worth": {"data", "models", "encoder", "engine", "evaluate", "pretrain"},
    "score": {"color", "data", "models", "colorize", "album", "encoder", "engine", "evaluate", "finetune", "prior"},
    "study": {"color", "data", "models", "colorize", "evaluate", "score"},
    "export": {"color", "data", "models", "encoder", "colorize"},
}
LOWER = set(ARROWS)
ARROWS["report"] = LOWER
ARROWS["cli"] = LOWER | {"report"}


def room_of(module: str) -> str:
    """The room of `ssl_colorize.room.module`; "" is the package's face."""
    return f"{module}.".split(".")[1]


def imported(tree: ast.AST) -> set[str]:
    """Dotted names that a module takes from the package, wherever in it: also inside functions, and for types."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return {name for name in found if name.partition(".")[0] == "ssl_colorize"}


@cache
def modules() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports."""
    paths = {
        ".".join(("ssl_colorize", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    return {name: (imported(ast.parse(path.read_text())) & set(paths)) - {name} for name, path in paths.items()}


@pytest.mark.parametrize("room", sorted({room_of(module) for module in modules()} - {"", "__main__"}))
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    allowed = {room} | TOOLS | ARROWS.get(room, set()) if room != "color" else {room}
    wrong = [
        f"{module} imports {other}"
        for module, others in modules().items()
        for other in sorted(others)
        if room_of(module) == room and room_of(other) not in allowed and other != "ssl_colorize"
    ]
    assert not wrong, "; ".join(wrong)
    assert room in ARROWS or room in TOOLS, f"{room} is no room that this test knows: say what it may import"


def test_no_modules_import_each_other_in_a_circle() -> None:
    # Take away what imports nothing that is left; a circle, or what leads into one, remains.
    left = {module: set(others) - {"ssl_colorize"} for module, others in modules().items()}
    while done := {module for module, others in left.items() if not others & set(left)}:
        left = {module: others for module, others in left.items() if module not in done}
    assert not left, f"in or above a circle: {', '.join(sorted(left))}"


def test_nothing_that_measures_imports_pretraining() -> None:
    for room in ("evaluate", "finetune", "engine"):
        assert "pretrain" not in ARROWS[room]
