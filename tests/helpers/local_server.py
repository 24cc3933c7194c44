"""An HTTP server on loopback, in threads of this process. A test can close and reopen its port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"


class Reserved:
    """Binds a port without listening on it: it refuses connections, and no other process can get the port.

    A free port could be taken by any process, and a client on loopback may even connect to itself there.
    """

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bind(port)
        self.port: int = self._socket.getsockname()[1]

    def release(self) -> None:
        self._socket.close()

    def _bind(self, port: int) -> None:
        end = time.monotonic() + 10.0
        while True:
            try:
                return self._socket.bind((HOST, port))
            except OSError:  # a killed process keeps the port for a moment
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)


class LocalServer:
    """Serves a handler on a port that stays the same. The server is closed at the start."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._handler = handler
        self._reserved: Reserved | None = Reserved()
        self._http: _Server | None = None
        self.port = self._reserved.port
        self.url = f"http://{HOST}:{self.port}"

    @property
    def is_open(self) -> bool:
        return self._http is not None

    def open(self) -> None:
        """Answer from now on."""
        if self._reserved is None:
            return
        self._reserved.release()
        self._reserved = None
        self._http = _Server((HOST, self.port), self._handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on, and cut the open ones."""
        if self._http is None:
            return
        self._http.shutdown()
        self._http.server_close()
        self._http.cut()
        self._http = None
        self._reserved = Reserved(self.port)

    def end(self) -> None:
        """Close, and release the port."""
        self.close()
        if self._reserved is not None:
            self._reserved.release()
            self._reserved = None


@contextmanager
def local_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[LocalServer]:
    """Provide an open server, and end it in any case."""
    server = LocalServer(handler)
    try:
        server.open()
        yield server
    finally:
        server.end()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a thread may wait for its client's next request

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self._connections.add(request)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._connections.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *args: object) -> None:
        """Ignore errors: clients are killed here, and answers are cut."""
