"""A stand-in for the service of a ZeroGPU Space's host that lends GPUs, as the package `spaces` calls it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from typing_extensions import override

_LOAN = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "MIG-0", "allowToken": "loan"}


@dataclass
class DeviceApi:
    """What it is asked, and how it answers."""

    url: str = ""
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Paths and query fields, in order."""
    wait: tuple[int, float] | None = None
    """If set, it refuses: seconds left of the quota, and seconds until there is more."""
    may_lend: threading.Event = field(default_factory=threading.Event)
    """While this is not set, people queue."""
    has_left: threading.Event = field(default_factory=threading.Event)
    """Somebody has left the queue."""
    released: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def called(self, path: str) -> list[dict[str, str]]:
        """The query fields of the calls of `path`."""
        return [fields for called, fields in self.calls if called == path]

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a ZeroGPU Space."""
        return {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": self.url}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: DeviceApi) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        api, url = self.server.api, urlsplit(self.path)
        api.calls.append((url.path, dict(parse_qsl(url.query))))
        if url.path != "/schedule":
            self._send(200, {})
        elif api.wait:
            left, wait = api.wait
            self._send(429, {"left": left, "wait": wait})
        elif api.may_lend.is_set():
            self._send(200, _LOAN)
        else:
            self._queue(api)
        if url.path == "/release":
            api.released.release()

    def _queue(self, api: DeviceApi) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            while not api.may_lend.wait(0.2):
                self.wfile.write(b"event: ping\n\n")
        except OSError:
            api.has_left.set()
        else:
            self.wfile.write(f"event: succeeded\ndata: {json.dumps(_LOAN)}\n\n".encode())

    def _send(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve_device_api() -> Iterator[DeviceApi]:
    """Serve on a free port; at first it lends GPUs at once."""
    api = DeviceApi()
    api.may_lend.set()
    server = _Server(api)
    api.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        api.may_lend.set()
        server.shutdown()
        server.server_close()
