"""Leases: held by one server at a time, as long as it is alive."""

import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Experiment

from phi3_ui.store import lease as lease_module
from phi3_ui.store.lease import Lease, hold_lease
from tests.support.build_cache import create_store

TAG = "phi3_ui.lease.setup"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return create_store(tmp_path, "phi3-chat")


def _find_experiment(uri: str) -> Experiment:
    found = MlflowClient(uri).get_experiment_by_name("phi3-chat")
    assert found
    return found


def _open(uri: str, home: str) -> Lease:
    return Lease(uri, _find_experiment(uri).experiment_id, "setup", Path(home))


def _read(uri: str) -> str | None:
    return _find_experiment(uri).tags.get(TAG)


def _write(uri: str, value: str) -> None:
    MlflowClient(uri).set_experiment_tag(_find_experiment(uri).experiment_id, TAG, value)


def test_another_server_waits_until_the_lease_is_released(uri: str) -> None:
    first, second = _open(uri, "/a"), _open(uri, "/b")
    waits: list[bool] = []
    assert first.try_acquire()
    assert second.is_held_elsewhere()
    assert not second.try_acquire()
    assert not first.is_held_elsewhere()

    def wait() -> None:
        waits.append(True)
        first.release()

    with hold_lease(second, wait, lambda: False) as is_held:
        assert is_held
        assert first.is_held_elsewhere()
    assert waits == [True]
    assert _read(uri) is None


def test_giving_up_the_wait_leaves_the_lease_alone(uri: str) -> None:
    assert _open(uri, "/a").try_acquire()
    with hold_lease(_open(uri, "/b"), lambda: None, lambda: True) as is_held:
        assert not is_held
    assert _open(uri, "/b").is_held_elsewhere()


def test_the_lease_of_a_dead_server_expires_and_its_successor_need_not_wait(uri: str) -> None:
    assert _open(uri, "/a").try_acquire()
    assert _open(uri, "/a").try_acquire(), "the file lock of the home folder shows that the other process has ended"
    holder = (_read(uri) or "").split()[0]
    _write(uri, f"{holder} {time.time() - 61:.0f}")
    assert _open(uri, "/b").try_acquire()
    for damaged in ("", "x", "x y"):
        _write(uri, damaged)
        assert _open(uri, "/c").try_acquire()


def test_the_last_of_two_concurrent_writers_holds_the_lease(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _open(uri, "/a"), _open(uri, "/b")
    first._settle = 1.0

    def write_meanwhile(_: float) -> None:
        monkeypatch.setattr(time, "sleep", lambda _: None)
        second._write()  # it had checked before the first one wrote

    monkeypatch.setattr(time, "sleep", write_meanwhile)
    assert not first.try_acquire()
    assert not second.is_held_elsewhere()


def test_a_lease_is_renewed_while_it_is_held(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_RENEWAL", 0.01)
    lease = _open(uri, "/a")
    assert lease.try_acquire()
    _write(uri, "nobody 0")
    deadline = time.monotonic() + 60
    while (_read(uri) or "").startswith("nobody"):
        assert time.monotonic() < deadline
    lease.release()
