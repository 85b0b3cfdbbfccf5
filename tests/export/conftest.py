"""Tiny networks as files."""

from pathlib import Path
from typing import Any

import pytest
from saved_networks import Save, save_network


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Writes a network into a folder of its own, and returns the file."""

    def save(*arguments: Any, **options: Any) -> Path:
        return save_network(tmp_path_factory.mktemp("run"), *arguments, **options)

    return save
