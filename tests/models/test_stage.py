"""Shared parts of the stages: atomic folders, and how a program reports success and failure."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.stage import SENTENCES, StageError, atomic_folder, require_space
from phi3_ui.paths import ROOT

# A stage whose argument selects its behaviour.
_PROGRAM = """
import argparse, errno, os, subprocess
from models.stage import StageError, run_as_program

def work(arguments, report):
    print("a library prints")
    os.write(1, b"native code prints\\n")
    subprocess.run(["echo", "a child prints"], check=True)
    report(1, 4)
    match arguments.how:
        case "stage":
            raise StageError("bad_hash", file="weights.gguf")
        case "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "big.bin")
        case "full, wrapped":
            raise RuntimeError("cannot write: " + os.strerror(errno.ENOSPC))
        case "denied":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/kept/shut")
        case "denied, no name":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        case "missing":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "gone.bin")
    report(4, 4)
    return {"path": "/made/model \\u2713"}

parser = argparse.ArgumentParser()
parser.add_argument("--folder", required=True)
parser.add_argument("--how", default="well")
run_as_program(work, parser)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    script = tmp_path / "stage.py"
    script.write_text(_PROGRAM, encoding="utf-8")
    return script


def _run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program), "--folder", str(program.parent / "made"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)


def _events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def _fill(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "weights.bin").write_bytes(b"1234")


def test_a_folder_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "model"

    with atomic_folder(target) as part:
        _fill(part)
        assert not target.exists()
        assert part.parent == target.parent, "so that the last step is a rename within one disk"

    assert (target / "sub" / "weights.bin").read_bytes() == b"1234"
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == 0o755


def test_a_folder_is_absent_if_filling_it_failed(tmp_path: Path) -> None:
    def fill_half() -> None:
        with atomic_folder(tmp_path / "model") as part:
            _fill(part)
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fill_half()

    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_folder_and_the_next_run_removes_its_leftovers(tmp_path: Path) -> None:
    target = tmp_path / "model"
    killed = (
        "import os, pathlib; from models.stage import atomic_folder\n"
        f"with atomic_folder(pathlib.Path({str(target)!r})) as part:\n"
        "    (part / 'half.bin').write_bytes(b'12'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", killed], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert [file.name for file in tmp_path.rglob("*.bin")] == ["half.bin"]
    assert not target.exists()

    with atomic_folder(target) as part:
        assert list(tmp_path.iterdir()) == [part]
        _fill(part)

    assert list(tmp_path.iterdir()) == [target]
    assert [file.name for file in tmp_path.rglob("*.bin")] == ["weights.bin"]


def test_unrelated_sibling_folders_are_kept(tmp_path: Path) -> None:
    others = [tmp_path / ".other.part-1", tmp_path / "model.part-1", tmp_path / "model-onnx"]
    for other in others:
        other.mkdir()

    with atomic_folder(tmp_path / "model") as part:
        _fill(part)

    assert all(other.exists() for other in others)


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()

    with atomic_folder(target) as part:
        _fill(part)

    assert (target / "sub" / "weights.bin").exists()


def test_a_folder_with_content_is_never_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "mine.txt").write_text("mine")

    def fill() -> None:
        with atomic_folder(target) as part:
            _fill(part)

    with pytest.raises(OSError, match=r"not empty|exists"):
        fill()

    assert [file.name for file in target.iterdir()] == ["mine.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_sufficient_disk_space_passes(tmp_path: Path) -> None:
    require_space(tmp_path / "new", 1)

    assert (tmp_path / "new").is_dir()


def test_missing_disk_space_is_reported_in_megabytes(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free

    with pytest.raises(StageError) as raised:
        require_space(tmp_path, free + 10**12)

    error = raised.value
    assert error.code == "disk_full"
    assert error.values["folder"] == str(tmp_path)
    assert int(error.values["need_mb"]) - int(error.values["free_mb"]) >= 10**6 - 1000
    assert str(error) == SENTENCES["disk_full"].format(**error.values)


def test_a_program_prints_only_its_events(program: Path) -> None:
    done = _run(program, "--events")

    assert done.returncode == 0
    assert _events(done) == [{"progress": [1, 4]}, {"progress": [4, 4]}, {"result": {"path": "/made/model ✓"}}]
    for source in ("a library", "native code", "a child"):
        assert f"{source} prints" in done.stderr


def test_without_events_the_program_prints_sentences(program: Path) -> None:
    done = _run(program)

    assert done.stdout.splitlines()[:2] == ["1 of 4 (25 %)", "4 of 4 (100 %)"]
    assert json.loads(done.stdout.splitlines()[2]) == {"path": "/made/model ✓"}

    failed = _run(program, "--how", "stage")
    assert failed.returncode == 1
    assert failed.stdout.splitlines()[-1] == SENTENCES["bad_hash"].format(file="weights.gguf")


def test_a_failure_with_a_cure_is_an_event_and_exit_1(program: Path) -> None:
    done = _run(program, "--events", "--how", "stage")

    assert done.returncode == 1
    assert _events(done) == [
        {"progress": [1, 4]},
        {"error": {"code": "bad_hash", "values": {"file": "weights.gguf"}}},
    ]


@pytest.mark.parametrize("how", ["full", "full, wrapped"])
def test_a_full_disk_is_reported_as_such(program: Path, how: str) -> None:
    done = _run(program, "--events", "--how", how)

    assert done.returncode == 1
    error = _events(done)[-1]["error"]
    assert error["code"] == "disk_filled"
    assert error["values"]["folder"] == str(program.parent / "made")
    assert error["values"]["free_mb"] > 0


@pytest.mark.parametrize(("how", "folder"), [("denied", "/kept/shut"), ("denied, no name", "made")])
def test_a_read_only_folder_is_named(program: Path, how: str, folder: str) -> None:
    done = _run(program, "--events", "--how", how)

    assert done.returncode == 1
    error = {"code": "not_writable", "values": {"folder": str(program.parent / folder)}}
    assert _events(done)[-1] == {"error": error}


def test_any_other_failure_prints_a_traceback_and_no_event(program: Path) -> None:
    done = _run(program, "--events", "--how", "missing")

    assert done.returncode == 1
    assert _events(done) == [{"progress": [1, 4]}]
    assert "FileNotFoundError" in done.stderr
    assert "gone.bin" in done.stderr
