"""The ONNX wrapper's code in the layout of an artifact: phi3_onnx.py, and its package in the folder `code`."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WRAPPER = Path(__file__).with_name("phi3_onnx.py")
ENGINE = WRAPPER.with_name("phi3_onnx_engine")


def code_files() -> dict[str, Path]:
    """Return the files by their paths in the artifact, in the order in which they are hashed."""
    modules = sorted(ENGINE.glob("*.py"))
    return {WRAPPER.name: WRAPPER, **{f"code/{ENGINE.name}/{module.name}": module for module in modules}}


def code_metadata() -> dict[str, Any]:
    """Return the metadata about a model's code by which a changed, incomplete or outdated wrapper is detected."""
    files = code_files()
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files.values()))
    return {"wrapper_sha256": digest.hexdigest(), "code_files": [*files]}


@contextmanager
def copied_code() -> Iterator[tuple[Path, Path]]:
    """Provide temporary copies of the wrapper and its package that have the default permissions of new files.

    MLflow copies permissions, too: it could not remove its own temporary copy of a read-only folder, and no client could download
    a read-only file of an artifact twice into the same folder.
    """
    with TemporaryDirectory() as temporary:
        wrapper, engine = Path(temporary) / WRAPPER.name, Path(temporary) / ENGINE.name
        engine.mkdir()
        shutil.copyfile(WRAPPER, wrapper)
        for module in ENGINE.glob("*.py"):
            shutil.copyfile(module, engine / module.name)
        yield wrapper, engine
