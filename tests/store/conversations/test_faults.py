"""Killed processes, a full disk and a read-only store: no finished turn is ever lost."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from phi3_ui.paths import ROOT
from tests.support.build_cache import create_store

pytestmark = pytest.mark.server

_KILLS, _VISITORS = 20, 3

# Each child is a server with a few visitors. They are forked because importing everything again takes seconds.
_KILL_SERVERS = f"""
import os, random, signal, sys, threading, time
from pathlib import Path
from phi3_ui.chat.conversation import TurnRequest, Conversation, new_id
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.types import Completed, GenerationParams, TextDelta, Timings, Usage
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.turn_writer import ConversationStore
from tests.store.conversations.recording import create_recorder, ensure_experiment, locate_in

uri, folder = sys.argv[1], Path(sys.argv[2])

class SlowModel:
    def answer(self, request, cancel):
        words = [f"word{{number}} " for number in range(random.randint(3, 40))]
        for word in words:
            time.sleep(0.002)
            yield TextDelta(word)
        yield Completed("".join(words), Usage(5, len(words)), Timings(0.1, 1.0, 50.0), "stop")

def chat(store, visitor_id, output):
    conversation, conversation_id = Conversation(), new_id()
    while True:
        conversation = conversation.with_question("Go on.", TurnRequest(time.time(), "m-1"))
        turn = conversation.turns[-1]
        writer = store.start_turn(visitor_id, conversation_id, conversation, "slow")
        answers = []
        def finish(answer):
            writer.finish(answer)
            answers.append(answer)
        running = RunningTurn(conversation.build_request(), "slow", SlowModel, finish, writer.append_text).start()
        assert running.wait(30)
        os.write(output, f"{{turn.id}} {{len(answers[0].text)}}\\n".encode())
        conversation = conversation.with_answer(answers[0])

def serve(output):
    recorder = create_recorder(uri, folder)
    store = ConversationStore(recorder, History(locate_in(uri), recorder), "0")
    visitors = [threading.Thread(target=chat, args=(store, f"visitor-{{n}}", output)) for n in range({_VISITORS})]
    for visitor in visitors:
        visitor.start()
    os.write(output, b"started\\n")
    for visitor in visitors:
        visitor.join()

ensure_experiment(uri)
for number in range({_KILLS}):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            serve(write)
        finally:
            os._exit(1)
    os.close(write)
    output = os.fdopen(read)
    assert output.readline() == "started\\n"
    for _ in range(number % 4):  # some turns finish however slow the machine is
        print(output.readline(), end="")
    time.sleep(random.uniform(0, 0.3))
    os.kill(child, signal.SIGKILL)
    print(output.read(), end="")
    os.waitpid(child, 0)
"""

_RECOVER_AND_LIST = """
import json, sys
from pathlib import Path
from mlflow import MlflowClient
from phi3_ui.store.query import paginate
from tests.store.conversations.recording import create_recorder, ensure_experiment, locate_in, read_turn

uri, folder = sys.argv[1], Path(sys.argv[2])
recorder = create_recorder(uri, folder)
assert recorder.flush(300)
recorder.close()
traces = paginate(MlflowClient(uri).search_traces, locations=[ensure_experiment(uri)], max_results=500)
turns = [read_turn(trace) for trace in traces]
print(json.dumps([[turn.id, len(turn.answer.text), turn.answer.error] for turn in turns]))
"""


def _run(program: str, *arguments: object, prefix: tuple[str, ...] = ()) -> str:
    """Run a Python program, through the command `prefix` if given, and return its output."""
    command = [*prefix, sys.executable, "-c", program, *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_a_server_killed_at_any_moment_loses_no_finished_turn(tmp_path: Path) -> None:
    uri = create_store(tmp_path)

    finished = dict(line.split() for line in _run(_KILL_SERVERS, uri, tmp_path).splitlines() if line != "started")

    stored: list[list[Any]] = json.loads(_run(_RECOVER_AND_LIST, uri, tmp_path))
    by_id = {id_: (length, error) for id_, length, error in stored}
    assert len(by_id) == len(stored), "a turn was recorded twice"
    assert len(finished) > _KILLS
    assert {id_: (int(length), None) for id_, length in finished.items()}.items() <= by_id.items()
    interrupted = [id_ for id_ in by_id if id_ not in finished]
    assert interrupted, "no server was killed during an answer"
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert list((tmp_path / "journal").iterdir()) == []


_SMALL_DISK = """
import subprocess, sys, time
from pathlib import Path
from phi3_ui.chat.conversation import new_id
from phi3_ui.store.conversations import recorder as recorder_module
from tests.store.conversations.chats import make_conversation
from tests.store.conversations.recording import (
    create_recorder, ensure_experiment, list_traces, record_turn, wait_until
)

recorder_module._RETRY_LAST = 0.5
template, disk, fault = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "none", disk], check=True)
database = disk / "mlflow.db"
database.write_bytes(template.read_bytes())
uri = f"sqlite:///{database}"
ensure_experiment(uri)

def chat(recorder, question):
    started = time.monotonic()
    record_turn(recorder, new_id(), make_conversation(question, "Hello " * 500))
    assert time.monotonic() - started < 2, "recording must not block the chat"

recorder = create_recorder(uri, disk)
chat(recorder, "before")
assert recorder.flush(60)
if fault == "full":
    filler = (disk / "filler").open("wb")
    try:
        while True:
            filler.write(b"x" * 4096)
            filler.flush()
    except OSError:
        pass
else:
    database.chmod(0o444)
    disk.chmod(0o555)
for number in range(3):
    chat(recorder, f"during {number}")
wait_until(lambda: recorder.warning is not None)
print(recorder.warning)
if fault == "full":
    try:
        filler.close()
    except OSError:
        pass
    (disk / "filler").unlink()
else:
    disk.chmod(0o755)
    database.chmod(0o644)
chat(recorder, "after")
assert recorder.flush(60)
wait_until(lambda: recorder.warning is None)
recorder.close()
print(*sorted(trace.info.request_preview for trace in list_traces(uri)), sep="\\n")
assert not list(disk.glob("journal/*"))
"""


def _record_on_small_disk(tmp_path: Path, fault: Literal["full", "read-only"]) -> list[str]:
    """Record turns before, during and after a disk fault. Return the warning, then the recorded questions.

    The disk is mounted in a separate mount namespace, invisible to the rest of the system.
    """
    for tool in ("unshare", "setpriv"):
        assert shutil.which(tool), f"{tool} is missing: install util-linux"
    create_store(tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    # Root ignores file permissions unless these capabilities are dropped.
    dropped = "-dac_override,-dac_read_search"
    prefix = ("unshare", "--map-root-user", "--mount", "setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}")
    return _run(_SMALL_DISK, tmp_path / "mlflow.db", disk, fault, prefix=prefix).splitlines()


def test_turns_finished_while_the_disk_is_full_are_recorded_once_there_is_space(tmp_path: Path) -> None:
    warning, *questions = _record_on_small_disk(tmp_path, "full")

    assert "cannot be written to disk at the moment" in warning
    assert questions == ["after", "before", "during 0", "during 1", "during 2"]


def test_turns_finished_while_the_store_is_read_only_are_recorded_once_it_is_writable(tmp_path: Path) -> None:
    warning, *questions = _record_on_small_disk(tmp_path, "read-only")

    assert "is read-only" in warning
    assert questions == ["after", "before", "during 0", "during 1", "during 2"]
