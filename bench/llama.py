"""The ONNX model in its process compared with llama.cpp on the same weights."""

import json
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.concurrency import USERS, ask_concurrently, compute_concurrent_rates, make_stories
from bench.long_chats import LongChat, ask_hosted, run_long_chat
from bench.paths import QUESTION
from bench.rows import Bench, Row, ask_model, available_cores, median_ratio
from models.presets import load_preset
from phi3_ui.chat.types import Message
from phi3_ui.prompts.tokenization import PromptFormat

PACKAGE, VERSION = "node-llama-cpp", "3.22.1"
# The package's default would download 600 MB of CUDA and Vulkan binaries.
_BINARIES = {
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "arm64"): "mac-arm64-metal",
    ("Windows", "AMD64"): "win-x64",
}
_TOKENS, _TOGETHER = 200, 100


class UnavailableError(Exception):
    """llama.cpp or its weights are not available on this machine."""


class LlamaCpp:
    """llama.cpp in its own process, which measures its own times so that the pipe costs nothing."""

    def __init__(self, process: subprocess.Popen[str], form: PromptFormat) -> None:
        self._process = process
        self._form = form

    def ask(self, messages: list[Message], tokens: int) -> dict[str, Any]:
        """Ask one question; see llama.mjs."""
        assert self._process.stdin
        print(
            json.dumps({"prompt": self._form.render(messages), "tokens": tokens}), file=self._process.stdin, flush=True
        )
        answer = self.read()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def ask_together(self, questions: list[Message], tokens: int) -> dict[str, Any]:
        """Ask all questions in parallel sequences; see llama.mjs."""
        assert self._process.stdin
        prompts = [self._form.render([question]) for question in questions]
        print(json.dumps({"prompts": prompts, "tokens": tokens}), file=self._process.stdin, flush=True)
        answer = self.read()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def ask_turn(self, messages: list[Message], tokens: int) -> tuple[str, float]:
        """Ask one turn of a chat; an AskTurn, see bench/long_chats.py."""
        answer = self.ask(messages, tokens)
        return answer["text"], answer["first"]

    def read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise UnavailableError("llama.cpp ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure_rows(bench: Bench) -> Iterator[Row]:
    try:
        yield from _measure(bench)
    except UnavailableError as error:
        yield Row("ONNX ÷ llama.cpp", f"not measured: {error}")


def _measure(bench: Bench) -> Iterator[Row]:
    metadata = bench.metadata("prompt")
    form = PromptFormat(metadata["chat_template"], tuple(metadata["special_tokens"]))
    story = [Message("user", QUESTION)]
    ours, theirs, ours_together, theirs_together = (list[float]() for _ in range(4))
    our_walks, their_walks = list[LongChat](), list[LongChat]()
    with run_llama(bench, form, metadata["context_length"]) as llama, bench.hosted("prompt") as model:
        llama.ask([Message("user", "Hello.")], 16)
        for number in range(bench.rounds):
            ours.append(ask_model(model, story, _TOKENS).speed.rate)
            theirs.append(llama.ask(story, _TOKENS)["rate"])
            ours_together.append(sum(compute_concurrent_rates(ask_concurrently(model))))
            theirs_together.append(llama.ask_together(make_stories(), _TOGETHER)["rate"])
            chat = f"Chat {number}"
            our_walks.append(run_long_chat(ask_hosted(model, []), chat))
            their_walks.append(run_long_chat(llama.ask_turn, chat))
    value = median_ratio(ours, theirs)
    detail = f"{statistics.median(ours):.0f} and {statistics.median(theirs):.0f} tokens/s"
    yield Row("ONNX ÷ llama.cpp: tokens/s", f"{value:.2f} ({detail})", "≥ 1.0", value >= 1)
    value = median_ratio(ours_together, theirs_together)
    detail = f"{statistics.median(ours_together):.0f} and {statistics.median(theirs_together):.0f} tokens/s"
    what = f"ONNX ÷ llama.cpp with {USERS} parallel sequences: total tokens/s of {USERS} users"
    yield Row(what, f"{value:.2f} ({detail})", "≥ 1.0", value >= 1)
    for turn, field in (("1", "first"), ("20", "last")):
        our, their = [getattr(one, field) for one in our_walks], [getattr(one, field) for one in their_walks]
        value, detail = median_ratio(our, their), f"{statistics.median(our):.3f} and {statistics.median(their):.3f} s"
        what = f"ONNX ÷ llama.cpp: first token, turn {turn}"
        yield Row(what, f"{value:.2f} ({detail})", "≤ 1.0", value <= 1)


@contextmanager
def run_llama(bench: Bench, form: PromptFormat, context_length: int) -> Iterator[LlamaCpp]:
    """Start llama.cpp on the demo's GGUF. Raises UnavailableError."""
    modules, gguf = install_llama(bench.settings.home / "node"), _gguf(bench.settings.home)
    script = Path(__file__).with_name("llama.mjs")
    command = ["node", str(script), str(modules), str(gguf), str(available_cores()), str(context_length)]
    with (bench.temporary / "llama.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
        )
    try:
        llama = LlamaCpp(process, form)
        llama.read()  # ready
        yield llama
    finally:
        process.kill()
        process.wait()


def install_llama(folder: Path) -> Path:
    """Install the package and its prebuilt binary for this machine in `folder`. Return the node_modules folder.

    Raises:
        UnavailableError: There is no npm, no binary for this machine, or the installation fails.
    """
    modules = folder / "node_modules"
    manifest = modules / PACKAGE / "package.json"
    if manifest.exists() and json.loads(manifest.read_text(encoding="utf-8"))["version"] == VERSION:
        return modules
    if not (npm := shutil.which("npm")) or not shutil.which("node"):
        raise UnavailableError("npm is not installed")
    binary = _BINARIES.get((platform.system(), platform.machine()))
    if binary is None:
        raise UnavailableError("there is no prebuilt binary for this machine")
    folder.mkdir(parents=True, exist_ok=True)
    packages = [f"{PACKAGE}@{VERSION}", f"@{PACKAGE}/{binary}@{VERSION}"]
    # The package's install script would look for a compiler.
    flags = ["--no-save", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--prefix", str(folder)]
    done = subprocess.run([npm, "install", *flags, *packages], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UnavailableError((done.stderr.strip().splitlines() or ["npm failed"])[-1])
    return modules


def _gguf(home: Path) -> Path:
    preset = load_preset("demo")
    assert preset.wheel
    gguf = home / "models" / preset.origin.preset / Path(preset.wheel.member).name
    if not gguf.exists():
        raise UnavailableError(f"{gguf} does not exist")
    return gguf
