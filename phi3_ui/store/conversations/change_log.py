"""Change logs by which the servers of one store notify each other of the conversations that they have changed.

MLflow cannot list what was changed or deleted since a given time, so each server keeps its latest changes in its own tag of the
experiment: `NUMBER SECONDS_SINCE_1970 VISITOR:CONVERSATION,…`, oldest first. NUMBER counts all changes that the server has ever
made, so that a reader notices when changes have been dropped.
"""

import hashlib
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.errors import translate_store_errors

_TAG = "phi3_ui.changes."
_MAX_CHANGES = 80  # changes of 46 characters each: every MLflow version accepts tags of 5,000 characters
_MIN_AGE = 1.0  # seconds between two reads
_STALE = 86_400.0  # seconds after which the tag of a stopped server is deleted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """The changes of other servers."""

    conversations: frozenset[tuple[str, str]] = frozenset()
    """Pairs of a `visitor_key` and a conversation id."""
    is_complete: bool = True
    """Whether no change is missing; if not, anything may have changed."""

    def union(self, other: "Changes") -> "Changes":
        """Return the union of both."""
        return Changes(self.conversations | other.conversations, self.is_complete and other.is_complete)


class ChangeLog:
    """Writes the changes of this server, and reads those of the others. Thread-safe."""

    def __init__(self, locate: Callable[[], ChatLocation]) -> None:
        """`locate`: see Recorder."""
        self._locate = locate
        self._server = uuid.uuid4().hex
        self._writing = threading.Lock()  # guards the next three attributes
        self._number = 0
        self._changes = deque[str](maxlen=_MAX_CHANGES)
        self._is_written = True
        self._reading = threading.Lock()  # guards the next three attributes
        self._put_back = Changes()
        self._seen: dict[str, int] | None = None  # NUMBER of each other server; None before the first read
        self._read_at = float("-inf")  # of time.monotonic()

    def add(self, visitor_id: str, conversation_id: str) -> None:
        """Add a change of a conversation in the store. `flush` publishes it."""
        with self._writing:
            self._number += 1
            self._changes.append(f"{visitor_key(visitor_id)}:{conversation_id}")
            self._is_written = False

    def flush(self) -> None:
        """Write the added changes to the store. If that fails, they are written with the next ones."""
        with self._writing:
            if self._is_written:
                return
            value = f"{self._number} {time.time():.0f} {','.join(self._changes)}"
            try:
                location = self._locate()
                with translate_store_errors(location.tracking_uri):
                    client = MlflowClient(location.tracking_uri)
                    client.set_experiment_tag(location.experiment_id, _TAG + self._server, value)
            except UserError as error:
                logger.info("Could not notify other servers of changes: %s", error)
            else:
                self._is_written = True

    def read_new(self) -> Changes:
        """Return the changes of the other servers since the last call; none if that was less than a second ago.

        Raises:
            UserError: See translate_store_errors.
        """
        with self._reading:
            if time.monotonic() - self._read_at < _MIN_AGE:
                return Changes()
            location = self._locate()
            with translate_store_errors(location.tracking_uri):
                client = MlflowClient(location.tracking_uri)
                logs = _parse_logs(client.get_experiment(location.experiment_id).tags)
                logs.pop(self._server, None)
                if self._seen is None:
                    for server in [one for one, log in logs.items() if log.written_at < time.time() - _STALE]:
                        client.delete_experiment_tag(location.experiment_id, _TAG + server)
                        del logs[server]
            changes = self._put_back.union(_find_new(logs, self._seen))
            self._put_back = Changes()
            self._seen = {server: log.number for server, log in logs.items()}
            self._read_at = time.monotonic()
            return changes

    def put_back(self, changes: Changes) -> None:
        """Make `read_new` return these changes again, since they could not be applied."""
        with self._reading:
            self._put_back = self._put_back.union(changes)


def visitor_key(visitor_id: str) -> str:
    """Return the hash that stands for a visitor in the log, which everyone with access to the store can read."""
    return hashlib.sha256(visitor_id.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Log:
    """The content of a server's tag."""

    number: int
    written_at: float
    changes: tuple[tuple[str, str], ...]


def _parse_logs(tags: Mapping[str, str]) -> dict[str, _Log]:
    """Return the logs by server. Invalid ones are omitted, with a warning."""
    logs = dict[str, _Log]()
    for key, value in tags.items():
        if not key.startswith(_TAG):
            continue
        try:
            number, written_at, changes = value.split(" ")
            pairs = tuple(_parse_change(change) for change in changes.split(","))
            logs[key.removeprefix(_TAG)] = _Log(int(number), float(written_at), pairs)
        except ValueError as error:
            logger.warning("The tag %s is damaged: %s", key, error)
    return logs


def _parse_change(text: str) -> tuple[str, str]:
    visitor, conversation = text.split(":")
    return visitor, conversation


def _find_new(logs: Mapping[str, _Log], seen: Mapping[str, int] | None) -> Changes:
    found = set[tuple[str, str]]()
    is_complete = True
    for server, log in logs.items():
        # Changes before the first read were in the store when the conversations were first loaded, except perhaps the last.
        new = log.number - seen.get(server, 0) if seen is not None else len(log.changes)
        found.update(log.changes[-new:] if new > 0 else ())
        is_complete &= new <= len(log.changes)
    return Changes(frozenset(found), is_complete)
