"""A server of the OpenAI protocol, and engines that ask it."""

from collections.abc import Iterator
from typing import Any

import pytest

from components.shared.engines.endpoint import EndpointEngine
from tests.components.shared.engines.asking import MakeEngine
from tests.components.shared.engines.openai_server import FakeOpenAI


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    server = FakeOpenAI()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_engine(server: FakeOpenAI) -> Iterator[MakeEngine]:
    """Engines whose patience is short."""
    engines = []

    def make(uri: str = server.endpoint_uri, **settings: Any) -> EndpointEngine:
        engines.append(
            EndpointEngine(uri, "tiny", **{"patience_seconds": 0.5, "first_delay_seconds": 0.02, **settings})
        )
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
