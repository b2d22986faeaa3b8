"""A server in this process that answers as a platform's API does, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]


class Asked(NamedTuple):
    """A request: method, path, the first value of every query parameter, body."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """A status, and what is sent as JSON; a text is sent as it is."""

    status: int
    content: Object | str


class Platform(Protocol):
    """What answers requests."""

    requests: list[Asked]

    def answer(self, asked: Asked, authorization: str) -> Answer: ...


@contextmanager
def serving(platform: Platform) -> Iterator[str]:
    """The address at which the platform answers while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, parts.path, query, body)
            platform.requests.append(asked)
            status, content = platform.answer(asked, self.headers.get("Authorization", ""))
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text.encode())

        # Names that the base class looks for.
        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _do  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 its name in the base class
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
