"""A stand-in hub for this process, with a repository."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import close_session

from models import hub_client
from tests.support.hub import Hub, hub
from tests.support.tiny_repo import CHECKPOINT, REPO, write


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in hub for this process, without a token and without pauses between retries."""
    with hub(tmp_path) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub_client, "_BACKOFF", (0, 0, 0))
        close_session()
        yield made
        close_session()


@pytest.fixture
def checkpoint(tmp_path: Path, stand_in: Hub) -> str:
    """The commit of a repository that contains a checkpoint and many other files."""
    besides = ["modeling_tiny.py", "pytorch_model.bin", "consolidated.safetensors", ".gitattributes", "hub.json"]
    besides += ["flax_model.msgpack", "onnx/model.onnx", "picture.png", "original/params.json"]
    return stand_in.add(REPO, write(tmp_path / "repo", {**CHECKPOINT, **dict.fromkeys(besides, 60)}))
