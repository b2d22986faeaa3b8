"""An OpenAI-compatible server for a pod, a fake of an outside thing: it answers every prompt alike, slowly, and counts.

Runs in a bare Python: llm.py SECONDS. GET /counts says how many calls came, how many of them were different, and how
many were answered; a call whose client was killed is counted and not answered.
"""

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_SECONDS = float(sys.argv[1])
_lock = threading.Lock()
_asked: Counter[str] = Counter()
_answered: Counter[str] = Counter()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        prompt = json.dumps(json.loads(body)["messages"])
        with _lock:
            _asked[prompt] += 1
        time.sleep(_SECONDS)
        message = {"role": "assistant", "content": "[1]"}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 3}
        self._send({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})
        with _lock:
            _answered[prompt] += 1

    def do_GET(self) -> None:
        with _lock:
            counts = {"calls": _asked.total(), "different": len(_asked), "answered": _answered.total()}
        self._send(counts if self.path == "/counts" else {"data": [{"id": "llm", "object": "model"}]})

    def _send(self, answer: dict[str, object]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """What counts is in /counts."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
