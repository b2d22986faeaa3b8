"""A TCP proxy that fails as told: connections cut at once, canned answers, uploads cut half-way."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_ANSWER = b"HTTP/1.1 %d Canned\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"


class FlakyProxy:
    """Passes everything on until it is told to fail."""

    def __init__(self, upstream: str, *, port: int = 0) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = parts.hostname, parts.port
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: set[socket.socket] = set()
        self._failure: int | str | None = None
        self._until = 0.0
        self.num_failed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def fail(self, failure: int | str, *, seconds: float = 1e9) -> None:
        """Fails from now on: an HTTP status, `reset`, or `cut` (after one megabyte of an upload)."""
        self._failure, self._until = failure, time.monotonic() + seconds
        for connection in list(self._open):
            _close(connection)

    def heal(self) -> None:
        self._failure = None

    def close(self) -> None:
        self._listener.close()
        for connection in list(self._open):
            _close(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        failure = self._failure if time.monotonic() < self._until else None
        if failure is not None and failure != "cut":
            self.num_failed += 1
            if isinstance(failure, int):
                _answer(client, failure)
            _close(client)
            return
        try:
            server = socket.create_connection(self._upstream)
        except OSError:
            _close(client)
            return
        self._open |= {client, server}
        limit = 1 << 20 if failure == "cut" else None
        threading.Thread(target=self._pass, args=(server, client, None), daemon=True).start()
        self._pass(client, server, limit)

    def _pass(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while block := source.recv(1 << 16):
                passed += len(block)
                if limit is not None and passed > limit:
                    self.num_failed += 1
                    break
                target.sendall(block)
        except OSError:
            pass
        for connection in (source, target):
            _close(connection)
            self._open.discard(connection)


def _answer(client: socket.socket, status: int) -> None:
    try:
        client.settimeout(5)
        client.recv(1 << 16)
        client.sendall(_ANSWER % status)
        # What the client still sends must be taken, or the answer is lost in a reset.
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass
    except OSError:
        pass


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def flaky(upstream: str) -> Iterator[FlakyProxy]:
    proxy = FlakyProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
