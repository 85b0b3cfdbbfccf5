"""`import ssl_colorize` makes our networks known to timm, without importing timm before somebody else does.

timm and torch take seconds to import, and the command line must not wait for them.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def import_after(package: str, module: str) -> None:
    """Import a module now, if a package is there already, or else as soon as the package is imported."""
    if package in sys.modules:
        import_module(module)
    elif not any(isinstance(finder, ImportHook) and finder.package == package for finder in sys.meta_path):
        sys.meta_path.insert(0, ImportHook(package, module))


class ImportHook(MetaPathFinder):
    """Finds a package where the other finders do, and imports a module when the package has run."""

    def __init__(self, package: str, module: str) -> None:
        self.package, self.module = package, module

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.package:
            return None
        others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((found for found in others if found is not None), None)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_import(module: ModuleType) -> None:
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            import_module(self.module)

        spec.loader.exec_module = run_and_import  # type: ignore[method-assign]
        return spec
