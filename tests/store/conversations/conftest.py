"""A separate store for each test, and a recorder that writes to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from phi3_ui.store.conversations.recorder import Recorder
from tests.store.conversations.recording import create_recorder
from tests.support.build_cache import create_store


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """The URI of an empty store, whose database is `tmp_path / "mlflow.db"`."""
    return create_store(tmp_path)


@pytest.fixture
def recorder(uri: str, tmp_path: Path) -> Iterator[Recorder]:
    """A recorder for `uri`, closed after the test."""
    recorder = create_recorder(uri, tmp_path)
    yield recorder
    recorder.close()
