"""A stand-in for the GPU scheduling service of a ZeroGPU Space's host, as called by the package `spaces`."""

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
    """Records the calls and decides the responses."""

    url: str = ""
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Paths and query fields, in order."""
    wait: tuple[int, float] | None = None
    """If set, requests are refused, with the seconds left of the quota and the seconds until it is replenished."""
    may_lend: threading.Event = field(default_factory=threading.Event)
    """While this is not set, visitors queue."""
    has_left: threading.Event = field(default_factory=threading.Event)
    """Set once a visitor has left the queue."""
    released: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def find_calls(self, path: str) -> list[dict[str, str]]:
        """Return the query fields of each call to `path`."""
        return [fields for called, fields in self.calls if called == path]

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a ZeroGPU Space."""
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
    """Serve the stand-in on a free port, and yield it. Initially it lends GPUs immediately."""
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
