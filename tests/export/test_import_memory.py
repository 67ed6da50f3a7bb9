"""What reading a file of chats takes of the memory: at most five times the file, or a small fixed amount."""

import json
import subprocess
import sys
from typing import Any

import pytest

from phi3_ui.paths import ROOT

FREE = 60_000_000
"""Bytes that any file may take: those of a chat that is short but all structure, and of what the reader itself needs."""

_MEASURE = """
import io, json, os, sys, tempfile, zipfile
from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.export.archive import create_archive, to_json
from phi3_ui.export.chat_file import ReadChat, iterate_chats
from phi3_ui.store.conversations.operations import ConversationImport, serialize_operation

def write_list(file, chat, count):
    file.write(b"[")
    for number in range(count):
        file.write(b"," * bool(number) + chat)
    file.write(b"]")

def message(text):
    return json.dumps({"role": "user", "content": text}, ensure_ascii=False).encode()

def write_zip(file, content, count=8):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x.bin", os.urandom(100_000))
        for number in range(count):
            packed.writestr(f"{number}.json", content)

def write_own(file, turns):
    file.write(to_json(Conversation(tuple(Turn("q" * 500, Answer("m", "a")) for _ in range(turns))), "t").encode())

CASES = {
    "a chat of long messages": lambda file: write_list(file, message("word " * 2000), 1800),
    "a chat with an emoji in each message": lambda file: write_list(file, message("word " * 200 + "\\U0001f600"), 17_000),
    "a list of chats": lambda file: write_list(file, b'{"messages":[' + message("word " * 20_000) + b"]}", 500),
    "a saved chat": lambda file: write_own(file, 10_000),
    "one text without an end": lambda file: [file.write(b'["')] + [file.write(b"a" * 1_000_000) for _ in range(60)],
    "empty objects": lambda file: write_list(file, b"{}", 2_000_000),
    "empty objects in a message": lambda file: file.write(b'[{"role":[' + b"{}," * 1_000_000 + b"0]}]"),
    "names of fields": lambda file: file.write(b"[{" + b",".join(b'"%d":0' % n for n in range(500_000)) + b"}]"),
    "depth": lambda file: file.write(b"[" * 5_000_000),
    "a zip that unpacks to all that it may": lambda file: write_zip(file, b'[{"role":[' + b"{}," * 2_000_000 + b"0]}]", 1),
    "a zip bomb": lambda file: write_zip(file, b'[{"role":[' + b"{}," * 7_000_000 + b"0]}]"),
    "a zip with a large directory": lambda file: file.write(b"PK\\1\\2" + b"\\0" * 42) and [
        file.write((b"PK\\1\\2" + b"\\0" * 42) * 1000) for _ in range(400)],
}

def peak():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

list(iterate_chats(io.BytesIO(message("a"))))
for name, write in CASES.items():
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if not pid:
            write(file)
            file.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        size = file.seek(0, 2)
        read, out = os.pipe()
        pid = os.fork()
        if not pid:
            before, found = peak(), {True: 0, False: 0}
            for one in iterate_chats(file):
                found[isinstance(one, ReadChat)] += 1
                if isinstance(one, ReadChat):
                    serialize_operation(ConversationImport("v", "c", one.conversation.tree, {}, "0"))
            os.write(out, json.dumps([name, size, peak() - before, found[True], found[False]]).encode())
            os._exit(0)
        os.close(out)
        print(os.fdopen(read).read(), flush=True)
        os.waitpid(pid, 0)
"""


@pytest.fixture(scope="module")
def measured() -> dict[str, list[Any]]:
    """By name of the case: bytes of the file, bytes of memory, chats read, chats refused."""
    done = subprocess.run([sys.executable, "-c", _MEASURE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_takes_at_most_five_times_the_file(measured: dict[str, list[Any]]) -> None:
    for name, (size, memory, _, _) in measured.items():
        assert memory <= 5 * size + FREE, name
    assert {name: read for name, (_, _, read, _) in measured.items() if read} == {
        "a chat of long messages": 1,
        "a chat with an emoji in each message": 1,
        "a list of chats": 500,
        "a saved chat": 1,
    }
    size, _, _, refused = measured["a zip bomb"]
    assert size < 400_000
    assert refused
