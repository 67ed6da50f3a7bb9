"""The ONNX model through the app against llama.cpp on the weights that it was made from."""

import json
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow

from bench.paths import QUESTION
from bench.rows import Bench, Row, ask, cores, ratio
from bench.turns import Walk, asked_of, walk
from models.presets import load_preset
from phi3_ui.chat.types import Message
from phi3_ui.prompts.tokenization import PromptFormat

PACKAGE, VERSION = "node-llama-cpp", "3.22.1"
# Its own choice of binaries would bring those for CUDA and Vulkan, 600 MB.
_BINARIES = {
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "arm64"): "mac-arm64-metal",
    ("Windows", "AMD64"): "win-x64",
}
_TOKENS = 200


class CannotBeHadError(Exception):
    """llama.cpp, or the weights for it, cannot be had here."""


class Llama:
    """llama.cpp in its process. It takes its own times, so that its pipe costs it nothing."""

    def __init__(self, process: subprocess.Popen[str], form: PromptFormat) -> None:
        self._process = process
        self._form = form

    def ask(self, messages: list[Message], tokens: int) -> dict[str, Any]:
        """See llama.mjs."""
        assert self._process.stdin
        print(
            json.dumps({"prompt": self._form.render(messages), "tokens": tokens}), file=self._process.stdin, flush=True
        )
        answer = self.read()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def asked(self, messages: list[Message], tokens: int) -> tuple[str, float]:
        """As a turn of bench/turns.py."""
        answer = self.ask(messages, tokens)
        return answer["text"], answer["first"]

    def read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise CannotBeHadError("llama.cpp ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def rows(bench: Bench) -> Iterator[Row]:
    try:
        yield from _measured(bench)
    except CannotBeHadError as error:
        yield Row("ONNX through the app ÷ llama.cpp", f"not measured: {error}")


def _measured(bench: Bench) -> Iterator[Row]:
    metadata = mlflow.models.get_model_info(bench.entries["prompt"].uri).metadata
    form = PromptFormat(metadata["chat_template"], tuple(metadata["special_tokens"]))
    story = [Message("user", QUESTION)]
    ours, theirs = list[float](), list[float]()
    our_walks, their_walks = list[Walk](), list[Walk]()
    with running(bench, form, metadata["context_length"]) as llama, bench.hosted("prompt") as model:
        llama.ask([Message("user", "Hello.")], 16)
        for number in range(bench.rounds):
            ours.append(ask(model, story, _TOKENS).figure.rate)
            theirs.append(llama.ask(story, _TOKENS)["rate"])
            chat = f"Chat {number}"
            our_walks.append(walk(asked_of(model, []), chat))
            their_walks.append(walk(llama.asked, chat))
    value = ratio(ours, theirs)
    beside = f"{statistics.median(ours):.0f} and {statistics.median(theirs):.0f} tokens/s"
    yield Row("ONNX through the app ÷ llama.cpp: tokens/s", f"{value:.2f} ({beside})", "≥ 1.0", value >= 1)
    for turn, of in (("1", lambda one: one.first), ("20", lambda one: one.last)):
        our, their = [of(one) for one in our_walks], [of(one) for one in their_walks]
        value, beside = ratio(our, their), f"{statistics.median(our):.3f} and {statistics.median(their):.3f} s"
        what = f"ONNX through the app ÷ llama.cpp: first token, turn {turn}"
        yield Row(what, f"{value:.2f} ({beside})", "≤ 1.0", value <= 1)


@contextmanager
def running(bench: Bench, form: PromptFormat, context_length: int) -> Iterator[Llama]:
    """CannotBeHadError."""
    modules, gguf = installed(bench.settings.home / "node"), _gguf(bench.settings.home)
    script = Path(__file__).with_name("llama.mjs")
    command = ["node", str(script), str(modules), str(gguf), str(cores()), str(context_length)]
    with (bench.temporary / "llama.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
        )
    try:
        llama = Llama(process, form)
        llama.read()  # ready
        yield llama
    finally:
        process.kill()
        process.wait()


def installed(folder: Path) -> Path:
    """The node_modules of `folder`, with the package and its prebuilt binary for this machine in it. CannotBeHadError."""
    modules = folder / "node_modules"
    manifest = modules / PACKAGE / "package.json"
    if manifest.exists() and json.loads(manifest.read_text(encoding="utf-8"))["version"] == VERSION:
        return modules
    if not (npm := shutil.which("npm")) or not shutil.which("node"):
        raise CannotBeHadError("there is no npm")
    binary = _BINARIES.get((platform.system(), platform.machine()))
    if binary is None:
        raise CannotBeHadError("there is no binary for this machine")
    folder.mkdir(parents=True, exist_ok=True)
    packages = [f"{PACKAGE}@{VERSION}", f"@{PACKAGE}/{binary}@{VERSION}"]
    # Its install script would look for a compiler.
    flags = ["--no-save", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--prefix", str(folder)]
    done = subprocess.run([npm, "install", *flags, *packages], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise CannotBeHadError((done.stderr.strip().splitlines() or ["npm failed"])[-1])
    return modules


def _gguf(home: Path) -> Path:
    preset = load_preset("demo")
    assert preset.wheel
    gguf = home / "models" / preset.origin.preset / Path(preset.wheel.member).name
    if not gguf.exists():
        raise CannotBeHadError(f"{gguf} is not there")
    return gguf
