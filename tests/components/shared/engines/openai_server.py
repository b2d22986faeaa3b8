"""A small OpenAI-compatible HTTP server, a fake of an outside thing: it answers correctly until told to fail.

Its model knows two replies and weighs a token by its length; a token is a word with the space before it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


# Called with path and body before the server answers; None lets it answer as it should.
Fault = Callable[[str, dict[str, Any]], Answer | None]


@dataclass
class FakeOpenAI:
    """`calls` are (path, body, headers) in order of arrival; `fault` may answer instead; flags take abilities away."""

    can_echo: bool = True
    can_tokenize: bool = True
    version: str = ""
    fault: Fault = lambda _path, _body: None
    seconds: float = 0.0
    calls: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _vocabulary: list[str] = field(default_factory=lambda: ["<s>"])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = fake.answer(self.path, body, dict(self.headers))
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def do_GET(self) -> None:
                is_known = self.path == "/version" and fake.version
                body = json.dumps({"version": fake.version} if is_known else {"detail": "Not Found"}).encode()
                self.send_response(200 if is_known else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """The test's output is no place for an access log."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that has hung up is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def endpoint_uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        with self._lock:
            self.calls.append((path, body, headers))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(self.seconds)
            routes = {"/v1/chat/completions": self._chat, "/v1/completions": self._complete}
            if self.can_tokenize:
                routes["/tokenize"] = self._tokenize
            if (fault := self.fault(path, body)) is not None:
                return fault
            if path not in routes:
                return Answer(404, b'{"detail": "Not Found"}')
            return Answer(200, json.dumps(routes[path](body)).encode())
        finally:
            with self._lock:
                self._at_once -= 1

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        words = f"echo of {body['messages'][-1]['content']}".split()
        kept = words[: body["max_tokens"]]
        finish_reason = "stop" if len(kept) == len(words) else "length"
        message = {"role": "assistant", "content": " ".join(kept)}
        return {
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": len(body["messages"]), "completion_tokens": len(kept)},
        }

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = body["prompt"] if isinstance(body["prompt"], list) else self._ids(body["prompt"], special=True)
        tokens = [*(self._vocabulary[token] for token in ids), " end"]
        choice: dict[str, Any] = {"index": 0, "text": " end", "finish_reason": "length", "logprobs": None}
        if self.can_echo:
            logprobs = [None, *(weight(token) for token in tokens[1:])]
            offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
            choice["logprobs"] = {
                "tokens": tokens,
                "token_logprobs": logprobs,
                "text_offset": offsets,
                "top_logprobs": None,
            }
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}

    def _tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = self._ids(body["prompt"], special=body["add_special_tokens"])
        return {"tokens": ids, "count": len(ids), "max_model_len": 4096}

    def _ids(self, text: str, *, special: bool) -> list[int]:
        with self._lock:
            words = re.findall(r" ?[^ ]+| ", text)
            self._vocabulary += [word for word in words if word not in self._vocabulary]
            return [0] * special + [self._vocabulary.index(word) for word in words]


def weight(token: str) -> float:
    """The fake model's log-likelihood of a token."""
    return -len(token) / 10
