"""A separate store for each test."""

from pathlib import Path

import pytest

from tests.support.build_cache import create_store


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """The URI of a store with one experiment, `models`, whose artifacts are in `tmp_path / "artifacts"`."""
    return create_store(tmp_path, "models")
