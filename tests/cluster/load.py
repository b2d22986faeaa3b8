"""Searches without a pause until it is told to stop, and says what was answered: load.py URL KEY SECONDS THREADS DEPTH.

Runs in the server's own image, so with the standard library only. Every thread keeps its connection as long as the
server does and opens a new one when told so, as HTTP/1.1 clients do; a request whose connection was closed before a
byte of the answer came is sent once more, which is what RFC 9110 (9.2.2) lets a client do for a request that changes
nothing. Everything else that is not 200 has failed.
"""

import http.client
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

_QUERIES = ("history of a volcano", "season of a beehive", "danger of a glacier", "craft of a violin")
_CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Client:
    """One connection's worth of searches, counted by what came back."""

    def __init__(self, url: str, key: str, depth: int) -> None:
        self.answers: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=40)
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        self._depth = depth

    def search_until(self, ends: float) -> "Client":
        number = 0
        while time.monotonic() < ends:
            self._search(_QUERIES[number % len(_QUERIES)])
            number += 1
        self._connection.close()
        return self

    def _search(self, query: str) -> None:
        body = json.dumps({"query": query, "depth": self._depth})
        is_reused = self._connection.sock is not None
        try:
            self._ask(body)
        except _CLOSED as error:
            self._connection.close()
            if not is_reused:
                self.answers[type(error).__name__] += 1
                return
            self.answers["sent again"] += 1
            self._search(query)
        except OSError as error:
            self._connection.close()
            self.answers[type(error).__name__] += 1

    def _ask(self, body: str) -> None:
        self._connection.request("POST", "/search", body, self._headers)
        answer = self._connection.getresponse()
        answer.read()
        self.answers[str(answer.status)] += 1
        self.versions[answer.headers.get("retriever-version", "")] += 1


def main() -> None:
    """Prints one JSON object at the end."""
    url, key, seconds, threads, depth = sys.argv[1:6]
    ends = time.monotonic() + float(seconds)
    with ThreadPoolExecutor(int(threads)) as pool:
        waiting = [pool.submit(Client(url, key, int(depth)).search_until, ends) for _ in range(int(threads))]
    clients = [one.result() for one in waiting]
    answers = sum((client.answers for client in clients), Counter[str]())
    versions = sum((client.versions for client in clients), Counter[str]())
    print(json.dumps({"answers": answers, "versions": versions}), flush=True)  # noqa: T201 what it is for


if __name__ == "__main__":
    main()
