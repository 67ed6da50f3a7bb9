"""Processes killed at any moment, disks that are full or may not be written: what was finished is never lost."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from phi3_ui.paths import ROOT
from tests.support.build_cache import create_store

_KILLS, _PEOPLE = 50, 3

# Its children are servers of three people each; all that they import is there before the first is started.
_KILLED = f"""
import os, random, signal, sys, threading, time
from pathlib import Path
from phi3_ui.chat.conversation import TurnRequest, Conversation, new_id
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.types import Completed, GenerationParams, TextDelta, Timings, Usage
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.turn_writer import ConversationStore
from tests.store.conversations.test_recorder import experiment, new_recorder

uri, folder = sys.argv[1], Path(sys.argv[2])

class Paced:
    def answer(self, request, cancel):
        words = [f"word{{number}} " for number in range(random.randint(3, 40))]
        for word in words:
            time.sleep(0.002)
            yield TextDelta(word)
        yield Completed("".join(words), Usage(5, len(words)), Timings(0.1, 1.0, 50.0), "stop")

def chat(keeper, person, said):
    talk, conversation = Conversation(), new_id()
    while True:
        talk = talk.with_question("Go on.", TurnRequest(time.time(), "m-1"))
        turn = talk.turns[-1]
        kept = keeper.start_turn(person, conversation, talk, "paced")
        answers = []
        def keep(answer):
            kept.finish(answer)
            answers.append(answer)
        running = RunningTurn(talk.build_request(), "paced", Paced, keep, kept.append_text).start()
        assert running.wait(30)
        os.write(said, f"{{turn.id}} {{len(answers[0].text)}}\\n".encode())
        talk = talk.with_answer(answers[0])

def serve(said):
    recorder = new_recorder(uri, folder)
    keeper = ConversationStore(recorder, History(uri, lambda: experiment(uri), recorder), "0")
    people = [threading.Thread(target=chat, args=(keeper, f"person-{{n}}", said)) for n in range({_PEOPLE})]
    for one in people:
        one.start()
    os.write(said, b"started\\n")
    for one in people:
        one.join()

experiment(uri)
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
    said = os.fdopen(read)
    assert said.readline() == "started\\n"
    time.sleep(random.uniform(0, 0.5))
    os.kill(child, signal.SIGKILL)
    print(said.read(), end="")
    os.waitpid(child, 0)
"""

_AFTER = """
import json, sys
from pathlib import Path
from phi3_ui.store.conversations.trace_reader import parse_turn
from tests.store.conversations.test_recorder import new_recorder, stored
uri, folder = sys.argv[1], Path(sys.argv[2])
recorder = new_recorder(uri, folder)
assert recorder.flush(300)
recorder.close()
from mlflow import MlflowClient
from phi3_ui.store.query import paginate
from tests.store.conversations.test_recorder import experiment
found = paginate(MlflowClient(uri).search_traces, locations=[experiment(uri)], max_results=500)
turns = [parse_turn(trace) for trace in found]
print(json.dumps([[turn.id, len(turn.answer.text), turn.answer.error] for turn in turns]))
"""


def _run(program: str, *arguments: object, prefix: tuple[str, ...] = ()) -> str:
    command = [*prefix, sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_server_killed_at_any_moment_loses_no_finished_turn(tmp_path: Path) -> None:
    uri = create_store(tmp_path)

    finished = dict(line.split() for line in _run(_KILLED, uri, tmp_path).splitlines() if line != "started")

    stored: list[list[Any]] = json.loads(_run(_AFTER, uri, tmp_path))
    by_id = {id_: (length, error) for id_, length, error in stored}
    assert len(by_id) == len(stored), "nothing is recorded twice"
    assert len(finished) > _KILLS
    assert {id_: (int(length), None) for id_, length in finished.items()}.items() <= by_id.items()
    interrupted = [id_ for id_ in by_id if id_ not in finished]
    assert interrupted, "some were in the middle of an answer"
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert list((tmp_path / "journal").iterdir()) == []


_SMALL_DISK = """
import subprocess, sys, time
from pathlib import Path
from phi3_ui.chat.conversation import Conversation, new_id
from phi3_ui.store.conversations import recorder as recorder_module
from tests.store.conversations.chats import answer, ask
from tests.store.conversations.test_recorder import _wait, experiment, new_recorder, say, stored

recorder_module._RETRY_LAST = 0.5
template, disk, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "none", disk], check=True)
store, journal = disk, disk
(store / "mlflow.db").write_bytes(template.read_bytes())
uri = f"sqlite:///{store / 'mlflow.db'}"
experiment(uri)

def talk(recorder, question):
    started = time.monotonic()
    say(recorder, new_id(), ask(Conversation(), question).with_answer(answer("Hello " * 500)))
    assert time.monotonic() - started < 2, "the chat waits for nobody"

recorder = new_recorder(uri, journal)
talk(recorder, "before")
assert recorder.flush(60)
if what == "full":
    filler = (disk / "filler").open("wb")
    try:
        while True:
            filler.write(b"x" * 4096)
            filler.flush()
    except OSError:
        pass
else:
    (store / "mlflow.db").chmod(0o444)
    disk.chmod(0o555)
for number in range(3):
    talk(recorder, f"during {number}")
_wait(lambda: recorder.warning is not None)
print(recorder.warning)
if what == "full":
    try:
        filler.close()
    except OSError:
        pass
    (disk / "filler").unlink()
else:
    disk.chmod(0o755)
    (store / "mlflow.db").chmod(0o644)
talk(recorder, "after")
assert recorder.flush(60)
_wait(lambda: recorder.warning is None)
recorder.close()
print(*sorted(trace.info.request_preview for trace in stored(uri)), sep="\\n")
assert not list(journal.glob("journal/*"))
"""


def _on_a_small_disk(tmp_path: Path, what: str) -> list[str]:
    """In a mount namespace of its own, so that nothing is mounted for anybody else."""
    assert shutil.which("unshare"), "unshare and setpriv are not there: install util-linux"
    assert shutil.which("setpriv")
    create_store(tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    # Permissions say nothing to who may override them.
    obeying = "-dac_override,-dac_read_search"
    prefix = ("unshare", "--map-root-user", "--mount", "setpriv", f"--bounding-set={obeying}", f"--inh-caps={obeying}")
    return _run(_SMALL_DISK, tmp_path / "mlflow.db", disk, what, prefix=prefix).splitlines()


def test_a_full_disk_is_said_and_nothing_finished_is_lost_once_there_is_room(tmp_path: Path) -> None:
    warning, *questions = _on_a_small_disk(tmp_path, "full")

    assert "does not accept this chat at the moment" in warning
    assert questions == ["after", "before", "during 0", "during 1", "during 2"]


def test_a_store_that_may_not_be_written_is_said_and_written_once_it_may(tmp_path: Path) -> None:
    warning, *questions = _on_a_small_disk(tmp_path, "read-only")

    assert "does not accept this chat at the moment" in warning
    assert questions == ["after", "before", "during 0", "during 1", "during 2"]
