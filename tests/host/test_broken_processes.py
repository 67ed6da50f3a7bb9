"""The app's side of processes that do not behave: no model is loaded here."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import pytest

from phi3_ui.chat.types import CancelToken, ChatRequest, Message
from phi3_ui.errors import UserError
from phi3_ui.host import child_process, model_process
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.protocol import ModelSpec

_SPEC = ModelSpec("m-1", "a model", "models:/m-1", "text", "sqlite:///nowhere.db")
_REQUEST = ChatRequest((Message("user", "Hi"),))


def _spawn_script(script: str) -> Any:
    def spawn(module: str, arguments: list[str], log: IO[bytes], **_: Any) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=log, text=True)

    return spawn


def _error_of(model: HostedModel) -> UserError:
    with pytest.raises(UserError) as raised:
        list(model.answer(_REQUEST, CancelToken()))
    return raised.value


@pytest.mark.parametrize("line", ["not JSON", '[0, ["no such event"]]', "[0"])
def test_a_line_outside_the_protocol_ends_the_model_and_is_logged(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = f"import sys; sys.stdin.readline(); print({line!r}, flush=True); sys.stdin.read()"
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext)

    assert _error_of(model).code == "model_crashed"
    assert not model.is_alive
    assert "a model sent a line that is not part of the protocol" in caplog.text


def test_a_line_without_end_ends_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_process, "_MAX_LINE", 1000)
    script = "import sys; sys.stdin.readline()\nwhile True: print('x' * 100, end='')"
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext)

    assert _error_of(model).code == "model_crashed"


def test_a_process_that_exits_at_once_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "spawn", _spawn_script("raise SystemExit(3)"))
    model = HostedModel(_SPEC, tmp_path, nullcontext)

    error = model.ready.exception(timeout=30)
    assert isinstance(error, UserError)
    assert "its process ended with code 3" in str(error)
    assert _error_of(model).code == "model_crashed"


def test_a_contract_that_is_not_registered_is_a_failed_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = HostedModel(ModelSpec("m-1", "a model", "models:/m-1", "no such contract", ""), tmp_path, nullcontext)

    error = model.ready.exception(timeout=30)
    assert isinstance(error, UserError)
    assert (error.code, error.values["model"]) == ("load_failed", "a model")
    assert "The process of a model could not be started" in caplog.text
    model.unload()
