"""A server's artifacts, and the server itself: in this process without a socket, or as a process of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from components.prepare.config import PrepareConfig
from components.serve.app import create_app
from components.serve.config import ServeConfig
from components.serve.service import Service
from components.shared.bm25 import build_bm25
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.drift.expected import Expected
from components.shared.fusion.tuned import Fusion
from components.shared.manifest import artifact_writer
from components.shared.records import Passage, Query
from tests.tiny_encoder import words_of, write_tiny_encoder, write_tiny_index

PASSAGES = [
    Passage(f"{topic}-{aspect}", f"{topic} {aspect}", f"The {aspect} of a {topic} told in plain words.")
    for topic in ("volcano", "glacier", "violin", "bakery", "harbour", "beehive")
    for aspect in ("history", "measurement", "danger", "season", "craft")
]

# With them a query and a passage of the same text have vectors of their own.
PREFIXES = {"query_prefix": "asked ", "passage_prefix": "written "}


@dataclass(frozen=True)
class Sources:
    """Where the artifacts of a server lie."""

    encoder_uri: str
    index_uri: str
    dataset_uri: str = ""

    def config(self, **settings: Any) -> ServeConfig:
        return ServeConfig(
            encoder_uri=self.encoder_uri, index_uri=self.index_uri, dataset_uri=self.dataset_uri, **settings
        )

    def flags(self) -> list[str]:
        uris = {"encoder-uri": self.encoder_uri, "index-uri": self.index_uri, "dataset-uri": self.dataset_uri}
        return [f"--{name}={uri}" for name, uri in uris.items()]


def write_sources(
    folder: Path,
    *,
    seed: int = 0,
    fusion: Fusion | None = None,
    expected: Expected | None = None,
    queries: Sequence[tuple[Query, str]] = (),
    **settings: object,
) -> Sources:
    """Writes dataset, encoder and index, each with its manifest; `settings` are the encoder's."""
    dataset, encoder, index = folder / "dataset", folder / "encoder", folder / "index"
    with artifact_writer("prepare", PrepareConfig(collection_uri="served", output_uri=str(dataset))) as artifact:
        writer = DatasetWriter(artifact.path)
        for passage in PASSAGES:
            writer.add_passage(passage)
        writer.finish(queries, [])
        build_bm25(Dataset(artifact.path), artifact.path / "bm25", scratch=artifact.scratch / "bm25")
    words = words_of([passage.full_text for passage in PASSAGES] + list(PREFIXES.values()))
    write_tiny_encoder(encoder, seed, words, **settings)
    write_tiny_index(index, dataset=dataset, encoder=encoder, fusion=fusion, expected=expected)
    return Sources(str(encoder), str(index), str(dataset))


class InProcess:
    """A started service and a client of its app, on an event loop of their own; no socket."""

    def __init__(self, config: ServeConfig) -> None:
        self.service = Service(config)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self.service.start())
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(self.service)), base_url="http://server"
        )

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.run(self.client.request(method, path, **arguments))

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.request("POST", path, json=body)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def close(self) -> None:
        self.run(self.client.aclose())
        self.service.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Process:
    """`python -m components.serve` on a free port."""

    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-m", "components.serve", "--port=0", "--drain-seconds=0", *flags]
        environment = {**os.environ, "RETRIEVER_LOG": "json"}
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, env=environment, cwd=Path(__file__).parents[3]
        )
        self.lines: list[dict[str, Any]] = []
        self._listening = threading.Event()
        self._url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == "serving":
                self._url = self.lines[-1]["url"]
                self._listening.set()
        self._listening.set()

    @property
    def url(self) -> str:
        assert self._listening.wait(60)
        assert self._url, self.lines
        return self._url

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def hang_up(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def exit_code(self) -> int:
        code = self._process.wait(60)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        return code
