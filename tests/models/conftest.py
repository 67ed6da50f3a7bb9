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
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in hub for this process, without a token and without pauses between retries."""
    with hub(tmp_path) as fake_hub:
        for name, value in fake_hub.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub_client, "_BACKOFF", (0, 0, 0))
        close_session()
        yield fake_hub
        close_session()


@pytest.fixture
def checkpoint(tmp_path: Path, fake_hub: Hub) -> str:
    """The commit of a repository that contains a checkpoint and many other files."""
    other_files = ["modeling_tiny.py", "pytorch_model.bin", "consolidated.safetensors", ".gitattributes", "hub.json"]
    other_files += ["flax_model.msgpack", "onnx/model.onnx", "picture.png", "original/params.json"]
    return fake_hub.add(REPO, write(tmp_path / "repo", {**CHECKPOINT, **dict.fromkeys(other_files, 60)}))
