"""A TCP proxy that can cut every connection, as a network does that is lost for a while."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TcpProxy:
    """Passes connections on to a port of this machine while it is not cut."""

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
        """Break all connections, and accept no other until `restore`."""
        with self._lock:
            self._is_cut = True
            for end in self._live:
                _shut(end)

    def restore(self) -> None:
        """Pass new connections on again."""
        with self._lock:
            self._is_cut = False

    def close(self) -> None:
        """Break all connections for good."""
        self.cut()
        _shut(self._listener)
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
                thread = threading.Thread(target=self._pass_on, args=[source, sink], daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with self._lock:  # `cut` shuts no socket that is closed
            self._live.discard(source)
            _shut(sink)
            source.close()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(url: str) -> Iterator[TcpProxy]:
    """A proxy to a server of this machine, until the block ends."""
    proxy = TcpProxy(int(url.rpartition(":")[2]))
    try:
        yield proxy
    finally:
        proxy.close()
