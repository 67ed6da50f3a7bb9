"""Measures what reading files of chats takes of the memory, each in a process of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass

from phi3_ui.paths import ROOT

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


@dataclass(frozen=True)
class Reading:
    """One file."""

    size: int
    """Bytes of the file."""
    memory: int
    """Bytes of memory at the peak, beyond what the process had before."""
    read: int
    """Chats that were read."""
    refused: int
    """Chats, or the rest of the file, that were refused."""


def measure_readings() -> dict[str, Reading]:
    """Of each kind of file, by what it is. Linux only."""
    done = subprocess.run([sys.executable, "-c", _MEASURE], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {name: Reading(*rest) for name, *rest in map(json.loads, done.stdout.splitlines())}
