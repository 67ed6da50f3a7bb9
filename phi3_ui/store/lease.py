"""Leases in the store: what one server does, another one on the same store leaves alone.

A lease is a tag of the experiment, `OWNER SECONDS_SINCE_1970`, renewed while it is held. MLflow has no compare-and-set, so a server
writes its lease, waits, and holds it if it is still there: of two that write at once, the last one does. The clocks of
servers may differ by half a minute. Processes of one home keep each other off with file locks, which end with a killed process.
"""

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

_TAG = "phi3_ui.lease."
_RENEWAL = 15.0  # seconds
_EXPIRY = 60.0  # seconds after the last renewal
_SETTLE = 1.0  # seconds in which what another server has begun to write arrives
_RETRY = 1.0  # seconds

logger = logging.getLogger(__name__)


class Lease:
    """One lease of one server. Only one thread acquires and releases it."""

    def __init__(self, tracking_uri: str, experiment_id: str, name: str, home: Path) -> None:
        """Of what `name` stands for. The caller holds a file lock for it in `home`, a folder of this server."""
        self._client = MlflowClient(tracking_uri)
        self._experiment_id = experiment_id
        self._tag = _TAG + name
        self._owner = _find_owner(home)
        # The file lock alone decides where every process of the store is on this machine.
        self._settle = 0.0 if tracking_uri.startswith("sqlite:") else _SETTLE
        self._released = threading.Event()
        self._renewal = threading.Thread(target=self._renew, name="lease", daemon=True)

    def is_held_elsewhere(self) -> bool:
        """Whether another server holds it. Raises MlflowException."""
        tags = self._client.get_experiment(self._experiment_id).tags
        return _is_alive(tags.get(self._tag, ""), self._owner)

    def try_acquire(self) -> bool:
        """Acquire it unless another server holds it. A store that takes no tags is used without. Raises MlflowException."""
        if self.is_held_elsewhere():
            return False
        try:
            self._write()
        except MlflowException as error:
            logger.warning("The store takes no lease, so another server might do the same: %s", error)
            return True
        if self._settle:
            time.sleep(self._settle)
            if self.is_held_elsewhere():
                return False
        self._renewal.start()
        return True

    def release(self) -> None:
        """Let others have it. If the store does not take that, it expires."""
        self._released.set()
        if self._renewal.is_alive():
            self._renewal.join(_EXPIRY)  # or it writes the tag once more
        with suppress(MlflowException):
            self._client.delete_experiment_tag(self._experiment_id, self._tag)

    def _write(self) -> None:
        self._client.set_experiment_tag(self._experiment_id, self._tag, f"{self._owner} {time.time():.0f}")

    def _renew(self) -> None:
        while not self._released.wait(_RENEWAL):
            try:
                self._write()
            except MlflowException as error:
                logger.info("A lease is not renewed: %s", error)


@contextmanager
def hold_lease(lease: Lease, on_wait: Callable[[], None], give_up: Callable[[], bool]) -> Iterator[bool]:
    """Hold a lease, waiting for it; `on_wait` is called if another server holds it. False once `give_up` says so. Raises MlflowException."""
    is_held = lease.try_acquire()
    if not is_held:
        on_wait()
    while not is_held and not give_up():
        time.sleep(_RETRY)
        is_held = lease.try_acquire()
    try:
        yield is_held
    finally:
        if is_held:
            lease.release()


def _find_owner(home: Path) -> str:
    return hashlib.sha256(f"{socket.gethostname()} {home.resolve()}".encode()).hexdigest()[:16]


def _is_alive(value: str, owner: str) -> bool:
    """Whether a tag is the lease of another server that has not expired."""
    holder, _, renewed_at = value.partition(" ")
    return holder != owner and renewed_at.isdecimal() and time.time() - int(renewed_at) < _EXPIRY
