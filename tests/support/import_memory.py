"""Measure the peak memory of reading chat files, each in its own process."""

import json
import subprocess
import sys
from dataclasses import dataclass

from phi3_ui.paths import ROOT

_SCRIPT = """
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
    "an unterminated string": lambda file: [file.write(b'["')] + [file.write(b"a" * 1_000_000) for _ in range(60)],
    "empty objects": lambda file: write_list(file, b"{}", 2_000_000),
    "empty objects in a message": lambda file: file.write(b'[{"role":[' + b"{}," * 1_000_000 + b"0]}]"),
    "a message with many fields": lambda file: file.write(b"[{" + b",".join(b'"%d":0' % n for n in range(500_000)) + b"}]"),
    "deep nesting": lambda file: file.write(b"[" * 5_000_000),
    "a zip that unpacks to the size limit": lambda file: write_zip(file, b'[{"role":[' + b"{}," * 2_000_000 + b"0]}]", 1),
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
            before, counts = peak(), {True: 0, False: 0}
            for chat in iterate_chats(file):
                counts[isinstance(chat, ReadChat)] += 1
                if isinstance(chat, ReadChat):
                    serialize_operation(ConversationImport("v", "c", chat.conversation.tree, {}, "0"))
            os.write(out, json.dumps([name, size, peak() - before, counts[True], counts[False]]).encode())
            os._exit(0)
        os.close(out)
        print(os.fdopen(read).read(), flush=True)
        os.waitpid(pid, 0)
"""


@dataclass(frozen=True)
class Reading:
    """The measurements of one file."""

    size: int
    """Size of the file, in bytes."""
    memory: int
    """Growth of the process's peak memory, in bytes."""
    read: int
    """Number of chats read."""
    rejected: int
    """Number of chats rejected; the rest of an unreadable file counts as one."""


def measure_imports() -> dict[str, Reading]:
    """Measure each kind of file, and return the results by kind. Linux only."""
    result = subprocess.run([sys.executable, "-c", _SCRIPT], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr)
    return {name: Reading(*rest) for name, *rest in map(json.loads, result.stdout.splitlines())}
