"""The environment that a child process inherits."""

import io
import subprocess
from typing import Any

import pytest

from phi3_ui.host import child_process


def test_a_child_process_gets_none_of_the_apps_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    environments = list[dict[str, str]]()

    def start(*_: Any, env: dict[str, str], **__: Any) -> None:
        environments.append(env)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setenv("PHI3_UI_REMOTE_SERVERS", 'lab = {url = "http://h/v1", key = "sk-1"}')
    monkeypatch.setenv("PHI3_UI_JUDGE_KEY", "sk-2")
    monkeypatch.setenv("HF_TOKEN", "hf-3")
    child_process.spawn("models.stage", [], io.BytesIO())

    [environment] = environments
    assert environment["HF_TOKEN"] == "hf-3", "downloads need it"
    assert "sk-" not in str(environment)
