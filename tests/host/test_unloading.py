"""Unloading a model that is not loaded yet."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phi3_ui.errors import UserError
from phi3_ui.host import child_process
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.protocol import ModelSpec


def test_a_model_unloaded_during_its_download_is_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(child_process, "spawn", lambda *arguments, **_: started.append(arguments))
    downloaded = threading.Event()

    @contextmanager
    def admit(spec: ModelSpec) -> Iterator[ModelSpec]:
        assert downloaded.wait(60)
        yield spec

    model = HostedModel(ModelSpec("m", "m", "models:/m", "prompt", "sqlite://"), tmp_path, admit)
    model.unload()  # does not wait for the download
    assert not model.is_alive
    downloaded.set()
    with pytest.raises(UserError) as raised:
        model.ready.result(60)
    assert raised.value.code == "model_crashed"
    assert started == []
