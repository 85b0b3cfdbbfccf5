"""`import ssl_colorize` makes our networks known to timm, without importing timm before somebody else does.

timm and torch take seconds to import, and the command line must not wait for them.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_TIMM = "timm"
# Where the models are, which register themselves.
_MODELS = ("ssl_colorize.models.timm_models",)


def open_door() -> None:
    """Register the models now, if timm is there already, or else as soon as it is imported."""
    if _TIMM in sys.modules:
        _register()
    elif not any(isinstance(finder, _Doorkeeper) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Doorkeeper())


def _register() -> None:
    for name in _MODELS:
        import_module(name)


class _Doorkeeper(MetaPathFinder):
    """Finds timm where the other finders do, and registers the models when it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _TIMM:
            return None
        others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((found for found in others if found is not None), None)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _register()

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec
