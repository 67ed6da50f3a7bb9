"""The remote servers added on the page, stored in a file that only the app's account can read, since it contains their keys."""

import json
import logging
import os
import threading
from pathlib import Path

from phi3_ui.errors import UserError
from phi3_ui.remote_servers import RemoteServer, RemoteServers, create_remote_server

logger = logging.getLogger(__name__)


class AddedServers:
    """Stores the servers added on the page. Thread-safe."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._servers = self._load()

    def list_servers(self) -> RemoteServers:
        """Return the servers, in the order in which they were added."""
        with self._lock:
            return self._servers

    def add(self, server: RemoteServer) -> None:
        """Store a server, replacing one with the same name. Raises UserError("not_writable")."""
        with self._lock:
            self._save((*(one for one in self._servers if one.name != server.name), server))

    def remove(self, name: str) -> None:
        """Remove a server and its key. Raises UserError("not_writable")."""
        with self._lock:
            self._save(tuple(one for one in self._servers if one.name != name))

    def _save(self, servers: RemoteServers) -> None:
        rows = [
            {**one.model_dump(mode="json", exclude_defaults=True), "key": one.key.get_secret_value()} for one in servers
        ]
        temporary = self._file.with_suffix(f".{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                json.dump(rows, opened, indent=1)
            temporary.replace(self._file)
        except OSError as error:
            raise UserError("not_writable", folder=str(self._file.parent)) from error
        self._servers = servers

    def _load(self) -> RemoteServers:
        if not self._file.exists():
            return ()
        try:
            return tuple(create_remote_server(**row) for row in json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            logger.error("Cannot read the remote servers in %s, so none of them is listed: %s", self._file, error)
            return ()
