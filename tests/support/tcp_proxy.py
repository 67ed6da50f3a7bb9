"""A TCP proxy that can break all connections, to simulate a network outage."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TcpProxy:
    """Forwards connections to a local port, except while it is cut."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._lock = threading.Lock()
        self._is_cut = False
        self._live: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones until `restore`."""
        with self._lock:
            self._is_cut = True
            for connection in self._live:
                _shut_down(connection)

    def restore(self) -> None:
        """Accept new connections again."""
        with self._lock:
            self._is_cut = False

    def close(self) -> None:
        """Break all connections, and stop listening."""
        self.cut()
        _shut_down(self._listener)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target_port))
                self._live |= {client, server}
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._forward, args=[source, sink], daemon=True)
                self._threads.append(thread)
                thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with self._lock:  # so that `cut` never shuts down a closed socket
            self._live.discard(source)
            _shut_down(sink)
            source.close()


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(url: str) -> Iterator[TcpProxy]:
    """Start a proxy to a local server, and yield it."""
    proxy = TcpProxy(int(url.rpartition(":")[2]))
    try:
        yield proxy
    finally:
        proxy.close()
