from collections.abc import Iterator

import pytest

from tests.components.serve.served import PREFIXES, InProcess, Sources, write_sources


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def prefixed_sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("prefixed"), **PREFIXES)


@pytest.fixture(scope="module")
def server(sources: Sources) -> Iterator[InProcess]:
    server = InProcess(
        sources.config(num_sessions=2, max_texts=8, max_body_bytes=20_000, max_depth=20, max_filter_ids=5)
    )
    yield server
    server.close()
