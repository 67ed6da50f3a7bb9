"""How the app handles misbehaving processes; no model is loaded here."""

import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, Message, TextDelta
from phi3_ui.errors import UserError
from phi3_ui.host import child_process, hosted_model, model_process
from phi3_ui.host.hosted_model import MAX_CHARACTERS, HostedModel
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

    assert _error_of(model).code == "model_malformed"
    assert not model.is_alive
    assert "a model sent a line that is not part of the protocol" in caplog.text


def test_an_endless_line_ends_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_process, "_MAX_LINE", 1000)
    script = "import sys; sys.stdin.readline()\nwhile True: print('x' * 100, end='')"
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext)

    assert _error_of(model).code == "model_malformed"


def test_a_line_of_too_many_values_ends_the_model_unparsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_process, "_MAX_VALUES", 2)
    script = (
        """import sys; sys.stdin.readline(); print('["ready", "stream", null]', flush=True); sys.stdin.readline()"""
    )
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext)

    assert _error_of(model).code == "model_malformed"


_LOADED = """
import json, sys
sys.stdin.readline()
print('["ready", "stream", null]', flush=True)
number = json.loads(sys.stdin.readline())["answer"]
def send(*event): print(json.dumps([number, event]))
"""


@pytest.mark.parametrize(
    "attack",
    [
        "send('text', 5)",
        "send('completed', None, None, {}, 'stop')",
        "print('[' * 100_000)",
        "print('9' * 10_000)",
        "print('null')",
        'print(\'["0", ["text", "x"]]\')',
        'print(\'["ready", "stream", null]\')',
        'print(\'["failed", "now"]\')',
        "sys.stdout.flush(); sys.stdout.buffer.write(b'\\xff\\xfe\\n')",
        "print(json.dumps([number, ['text', 'x' * 5_000_000]]))",
        "while True: send('text', 'x' * 100_000)",
        "while True: send('thinking')",
        "while True: send('alive')",
        "while True: number += 1; send('text', 'x')",
    ],
)
def test_a_loaded_model_that_sends_invalid_events_is_ended(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted_model, "_MAX_EVENTS", 1000)
    script = f"{_LOADED}\nsend('text', 'So far')\n{attack}\nsys.stdout.flush()\nsys.stdin.read()"
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext)
    answers = list[Answer]()
    turn = RunningTurn(_REQUEST, "a model", lambda: model, answers.append).start()

    assert turn.wait(60)
    assert answers[0].text[:6] in ("So far", "")  # text in the same read as invalid UTF-8 is lost
    assert answers[0].error == ("model_malformed", {"model": "a model"})
    assert len(answers[0].text) <= MAX_CHARACTERS
    assert not model.is_alive
    model.unload()


@pytest.mark.parametrize("event", ["'text', 'x'", "'alive'", "'prompt', 0, 9000", "'queued', 0"])
@pytest.mark.parametrize("time_limit", [None, 0.2], ids=["stop", "time limit"])
def test_a_model_that_continues_after_stop_is_ended_and_its_text_is_kept(
    event: str, time_limit: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"{_LOADED}\nimport time\nsend('text', 'So far')\nwhile True: send({event}); sys.stdout.flush(); time.sleep(0.001)"
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext, grace=0.3)
    answers, has_text = list[Answer](), threading.Event()
    request = replace(_REQUEST, time_limit=time_limit)
    turn = RunningTurn(request, "a model", lambda: model, answers.append, lambda _: has_text.set()).start()
    assert has_text.wait(60)
    if time_limit is None:
        turn.stop()

    assert turn.wait(60)
    assert answers[0].text.startswith("So far")
    assert (answers[0].finish_reason, answers[0].error) == ("timeout" if time_limit else "cancelled", None)
    assert answers[0].ended_model
    assert not model.is_alive
    model.unload()


def test_after_stop_the_rest_of_a_flood_is_merged_into_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        child_process, "spawn", _spawn_script(f"{_LOADED}\nsend('text', 'So')\nsys.stdout.flush()\nsys.stdin.read()")
    )
    model = HostedModel(_SPEC, tmp_path, nullcontext)
    assert model.ready.result(timeout=60) == "stream"
    events = model.answer(_REQUEST, CancelToken())
    assert next(events) == TextDelta("So")
    for _ in range(1000):
        model._deliver(0, TextDelta("."))
    model._release(0, "cancelled", kills_model=True)
    assert not model.is_alive, "further questions need another process"

    (end,) = events
    assert isinstance(end, Completed)
    assert end.text == "So" + "." * 1000
    model.unload()


def test_events_for_other_answers_or_after_the_end_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = (
        "send('completed', 'Yes', None, {'time_to_first_token': None, 'seconds': 1, 'tokens_per_second': None}, 'stop')"
    )
    script = f"""{_LOADED}
for number in (7, -1, 10**20, number): send('text', 'Yes')
{end}
{end}
send('text', 'No')
send('counted', [1, 2])
sys.stdout.flush()
sys.stdin.read()"""
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext)

    events = list(model.answer(_REQUEST, CancelToken()))
    assert [event for event in events if isinstance(event, TextDelta)] == [TextDelta("Yes")]
    assert model.is_alive
    model.unload()


@pytest.mark.parametrize("counts", ["[]", "[1, 2]"])
def test_a_wrong_number_of_counts_ends_the_model(counts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = _LOADED.replace('"answer"', '"count"') + f"send('counted', {counts})\nsys.stdout.flush()\nsys.stdin.read()"
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext)
    assert model.ready.result(timeout=60) == "stream"

    assert model.count_tokens([_REQUEST.messages], timeout=60) is None
    assert _error_of(model).code == "model_malformed"


def test_a_process_gets_one_count_request_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users type in many windows; an unresponsive process gets no further request."""
    script = f"{_LOADED}\nsys.stdin.read()".replace('"answer"', '"count"')
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext)
    assert model.ready.result(timeout=60) == "stream"

    assert model.count_tokens([_REQUEST.messages], timeout=0.01) is None
    assert model.count_tokens([_REQUEST.messages], timeout=0.01) is None
    assert model._process._outgoing.empty()
    assert len(model._counts) == 1
    model.unload()
    assert model._counts == {}


@pytest.mark.skipif(not child_process.CAN_AWAIT_EXIT, reason="an exit can be detected only by the end of the output")
@pytest.mark.parametrize(
    "attack",
    [
        "os.close(1); time.sleep(3600)",
        "subprocess.Popen(['sleep', '10'], start_new_session=True); os.kill(os.getpid(), 9)",
    ],
    ids=["output closed", "output inherited by another process"],
)
def test_a_process_that_can_no_longer_send_is_ended(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_process, "_KILL_SECONDS", 0.1)
    script = f"{_LOADED}\nimport os, subprocess, time\n{attack}"
    monkeypatch.setattr(child_process, "spawn", _spawn_script(script))
    model = HostedModel(_SPEC, tmp_path, nullcontext)

    assert _error_of(model).code == "model_crashed"
    assert not model.is_alive


def test_a_process_that_exits_at_once_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "spawn", _spawn_script("raise SystemExit(3)"))
    model = HostedModel(_SPEC, tmp_path, nullcontext)

    error = model.ready.exception(timeout=30)
    assert isinstance(error, UserError)
    assert "its process ended with code 3" in str(error)
    assert _error_of(model).code == "model_crashed"


def test_an_unregistered_contract_is_a_failed_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = HostedModel(ModelSpec("m-1", "a model", "models:/m-1", "no such contract", ""), tmp_path, nullcontext)

    error = model.ready.exception(timeout=30)
    assert isinstance(error, UserError)
    assert (error.code, error.values["model"]) == ("load_failed", "a model")
    assert "The process of a model could not be started" in caplog.text
    model.unload()
