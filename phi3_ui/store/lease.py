"""Leases in the store: mutual exclusion between servers that use the same store.

A lease is a tag of the experiment, `OWNER SECONDS_SINCE_1970`, renewed while it is held. MLflow has no compare-and-set, so a server
writes its lease, waits, and holds the lease if the tag is still its own: of two concurrent writers, the last one wins. The clocks of
servers may differ by half a minute. Processes with the same home use file locks, released when a process is killed.
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
_SETTLE = 1.0  # seconds within which a concurrent write of another server arrives
_RETRY = 1.0  # seconds

logger = logging.getLogger(__name__)


class Lease:
    """One lease of one server. Only one thread may acquire and release it."""

    def __init__(self, tracking_uri: str, experiment_id: str, name: str, home: Path) -> None:
        """`name` identifies the protected resource. The caller holds a file lock for it in `home`, a folder of this server."""
        self._client = MlflowClient(tracking_uri)
        self._experiment_id = experiment_id
        self._tag = _TAG + name
        self._owner = _find_owner(home)
        # With SQLite, every process that uses the store is on this machine, so the file lock suffices.
        self._settle = 0.0 if tracking_uri.startswith("sqlite:") else _SETTLE
        self._released = threading.Event()
        self._renewal = threading.Thread(target=self._renew, name="lease", daemon=True)

    def is_held_elsewhere(self) -> bool:
        """Return whether another server holds it. Raises MlflowException."""
        tags = self._client.get_experiment(self._experiment_id).tags
        return _is_alive(tags.get(self._tag, ""), self._owner)

    def try_acquire(self) -> bool:
        """Acquire it, or return False if another server holds it. A store that refuses tags is used without a lease.

        Raises:
            MlflowException: The store cannot be read.
        """
        if self.is_held_elsewhere():
            return False
        try:
            self._write()
        except MlflowException as error:
            logger.warning("The store refuses the lease, so another server might do the same work: %s", error)
            return True
        if self._settle:
            time.sleep(self._settle)
            if self.is_held_elsewhere():
                return False
        self._renewal.start()
        return True

    def release(self) -> None:
        """Release it. If the store refuses the change, the lease expires."""
        self._released.set()
        if self._renewal.is_alive():
            self._renewal.join(_EXPIRY)  # otherwise it might write the tag again
        with suppress(MlflowException):
            self._client.delete_experiment_tag(self._experiment_id, self._tag)

    def _write(self) -> None:
        self._client.set_experiment_tag(self._experiment_id, self._tag, f"{self._owner} {time.time():.0f}")

    def _renew(self) -> None:
        while not self._released.wait(_RENEWAL):
            try:
                self._write()
            except MlflowException as error:
                logger.info("Could not renew a lease: %s", error)


@contextmanager
def hold_lease(lease: Lease, on_wait: Callable[[], None], give_up: Callable[[], bool]) -> Iterator[bool]:
    """Wait for a lease and hold it during the block.

    Calls `on_wait` if another server holds it. Yields False if `give_up` returned True before the lease was acquired.

    Raises:
        MlflowException: The store failed.
    """
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
    """Return whether a tag is another server's unexpired lease."""
    holder, _, renewed_at = value.partition(" ")
    return holder != owner and renewed_at.isdecimal() and time.time() - int(renewed_at) < _EXPIRY
