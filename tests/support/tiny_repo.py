"""A small repository for the fake hub, and helpers that fetch it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.hub import fetch
from models.hub_files import Kind
from models.presets import HubFolder
from models.stage import SENTENCES, StageError
from phi3_ui.paths import ROOT

REPO = "someone/tiny-chat"
WEIGHTS = "model-00002-of-00002.safetensors"
BIG = 300_000
UNREACHABLE_URL = "http://127.0.0.1:9"  # the discard port, on which nothing listens

CHECKPOINT = {
    "config.json": 40,
    "generation_config.json": 30,
    "model-00001-of-00002.safetensors": 9_000,
    WEIGHTS: BIG,
    "model.safetensors.index.json": 300,
    "tokenizer.json": 70_000,
    "tokenizer_config.json": 50,
    "chat_template.jinja": 20,
    "README.md": 100,
    "LICENSE": 10,
}
ONNX = {"genai_config.json": 20, "model.onnx": 2_000, "model.onnx.data": 50_000, "tokenizer.json": 70, "more/a.txt": 5}


def write(folder: Path, sizes: dict[str, int], salt: bytes = b"") -> Path:
    """Write files of these sizes with distinct contents, and return `folder`."""
    for name, size in sizes.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        word = salt + name.encode() + b" "
        file.write_bytes((word * (size // len(word) + 1))[:size])
    return folder


def ignore(_done: int, _total: int) -> None: ...


def list_files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def has_same_contents(folder: Path, source: Path, names: dict[str, int]) -> bool:
    return all((folder / name).read_bytes() == (source / name).read_bytes() for name in names)


def fetch_expecting_error(source: HubFolder, target: Path, kind: Kind = "checkpoint") -> StageError:
    with pytest.raises(StageError) as raised:
        fetch(source, kind, target, ignore)
    assert str(raised.value) == SENTENCES[raised.value.code].format(**raised.value.values)
    return raised.value


def start_fetch(target: Path, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
    options = ["--repo", REPO, "--kind", "checkpoint", "--folder", str(target), *arguments]
    command = [sys.executable, "-m", "models.hub", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **streams)
